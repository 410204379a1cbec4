//! Completions that know the addresses for `unblock` and the decoys for `decoy remove`: what clap generates, and a few lines a
//! shell that ask psentry itself.

use psentry_stage::Shell;

/// Around the function that clap generates, for arguments of which psentry knows the values.
const BASH: &str = r#"
_psentry_known() {
    local word=${COMP_WORDS[COMP_CWORD]} known=
    case "${COMP_WORDS[1]-} ${COMP_WORDS[2]-}" in
        "unblock "*) known="$(psentry list --addresses 2>/dev/null) all" ;;
        "why "*) known=$(psentry list --addresses 2>/dev/null) ;;
        "decoy remove") [ "$COMP_CWORD" -lt 3 ] || known=$(psentry decoy list 2>/dev/null) ;;
        "allow remove") [ "$COMP_CWORD" -lt 3 ] || known=$(psentry allow list 2>/dev/null) ;;
    esac
    if [ "$COMP_CWORD" -lt 2 ] || [ -z "$known" ] || [[ "$word" = -* ]]; then
        _psentry "$@"
        return
    fi
    # A colon of IPv6 ends a word for bash.
    if declare -F _get_comp_words_by_ref >/dev/null; then _get_comp_words_by_ref -n : -c word; fi
    COMPREPLY=($(compgen -W "$known" -- "$word"))
    if declare -F __ltrim_colon_completions >/dev/null; then __ltrim_colon_completions "$word"; fi
}
complete -F _psentry_known psentry
"#;

const FISH: &str = r#"
complete -c psentry -n "__fish_seen_subcommand_from unblock why" -f -a "(psentry list --addresses 2>/dev/null)"
complete -c psentry -n "__fish_seen_subcommand_from decoy; and __fish_seen_subcommand_from remove" -f -a "(psentry decoy list 2>/dev/null)"
complete -c psentry -n "__fish_seen_subcommand_from allow; and __fish_seen_subcommand_from remove" -f -a "(psentry allow list 2>/dev/null)"
"#;

/// Arguments as zsh's script of clap names them, and what lists their values.
const ZSH: [(&str, &str); 3] =
    [(":blocked -- ", "list --addresses"), (":decoy -- ", "decoy list"), (":allowed -- ", "allow list")];

/// The completion script of a shell with these lines added.
#[must_use]
pub fn complete(shell: Shell, script: String) -> String {
    match shell {
        Shell::Bash => script + BASH,
        Shell::Fish => script + FISH,
        Shell::Zsh => script.lines().map(|line| zsh(line) + "\n").collect(),
        _ => script,
    }
}

fn zsh(line: &str) -> String {
    let Some((_, list)) = ZSH.iter().find(|(argument, _)| line.contains(argument)) else {
        return line.into();
    };
    line.replace(":_default'", &format!(":{{compadd -- ${{(f)\"$(psentry {list} 2>/dev/null)\"}}}}'"))
}
