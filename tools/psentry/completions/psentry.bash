# Added to what clap generates: arguments of which psentry itself knows the values.
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
