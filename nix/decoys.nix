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
  # Those that can be decoys: the lists as they are, before options.nix leaves out what something else has.
  possible =
    protocol:
    let
      option = options.services.psentry."${protocol}Ports";
    in
    lib.unique
      (lib.mergeDefinitions option.loc option.type option.definitionsWithLocations).mergedValue;

  # Whether nobody wrote this port: the list is the default one, or adds to it.
  isDefault =
    protocol: port:
    options.services.psentry."${protocol}Ports".highestPrio >= (lib.mkOptionDefault null).priority
    && lib.elem port defaults.${protocol};

  # A definition for each of them, which holds if it is one.
  each =
    protocol: definition:
    map (port: lib.mkIf (lib.elem port cfg."${protocol}Ports") (definition port)) (possible protocol);
}
