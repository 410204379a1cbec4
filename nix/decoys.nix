# The decoys of a configuration. Which of the default ones there are depends on the firewall and on the sockets of the
# machine, to which psentry adds its own. So a list that goes there has its length from what is known before, and each
# element says by itself whether it is there.
{
  config,
  lib,
  options,
}:
let
  cfg = config.services.psentry;
  defaults = import ./default-decoys.nix;
in
rec {
  # Whether the list of "tcp" or "udp" is one that somebody wrote, and not the default.
  written =
    protocol:
    options.services.psentry."${protocol}Ports".highestPrio < (lib.mkOptionDefault null).priority;

  # Those that can be decoys.
  possible =
    protocol: if written protocol then lib.unique cfg."${protocol}Ports" else defaults.${protocol};

  # A definition for each of them, which holds if it is one.
  each =
    protocol: definition:
    map (port: lib.mkIf (lib.elem port cfg."${protocol}Ports") (definition port)) (possible protocol);
}
