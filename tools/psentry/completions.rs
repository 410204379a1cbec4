//! Completions that know the addresses for `unblock` and the decoys for `decoy remove`: what clap generates, and a few lines a
//! shell that ask psentry itself.

use psentry_stage::Shell;

/// Around the function that clap generates, for arguments of which psentry knows the values.
const BASH: &str = include_str!("completions/psentry.bash");
const FISH: &str = include_str!("completions/psentry.fish");

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
