# Added to what clap generates: arguments of which psentry itself knows the values.
complete -c psentry -n "__fish_seen_subcommand_from unblock why" -f -a "(psentry list --addresses 2>/dev/null)"
complete -c psentry -n "__fish_seen_subcommand_from decoy; and __fish_seen_subcommand_from remove" -f -a "(psentry decoy list 2>/dev/null)"
complete -c psentry -n "__fish_seen_subcommand_from allow; and __fish_seen_subcommand_from remove" -f -a "(psentry allow list 2>/dev/null)"
