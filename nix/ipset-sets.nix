# The sets of the backend ipset, empty, before the firewall: rules that match sets which are not there are not loaded.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.psentry;
  # As units/ makes them.
  lines = lib.filter builtins.isString (
    builtins.split "\n" (builtins.readFile ../units/psentry-ipset-sets.service)
  );
  makes = lib.filter (lib.hasPrefix "ExecStart=ipset ") lines;
  arguments = map (lib.removePrefix "ExecStart=ipset ") makes;
in
{
  config.systemd.services.psentry-ipset-sets =
    lib.mkIf (cfg.enable && cfg.block.enable && lib.elem "ipset" cfg.block.backends)
      {
        description = "psentry: the empty sets that saved rules of iptables match";
        documentation = [ "man:psentry-block(8)" ];
        unitConfig.DefaultDependencies = false;
        after = [
          "systemd-modules-load.service"
          "local-fs.target"
        ];
        before = [
          "firewall.service"
          "netfilter-persistent.service"
          "iptables.service"
          "ip6tables.service"
          "network-pre.target"
          "psentry-block.service"
          "shutdown.target"
        ];
        wants = [ "network-pre.target" ];
        conflicts = [ "shutdown.target" ];
        wantedBy = [ "sysinit.target" ];
        enableDefaultPath = false;
        serviceConfig =
          lib.mapAttrs (_: lib.mkDefault) (
            removeAttrs (import ./sandbox.nix) [ "DynamicUser" ]
            // {
              CapabilityBoundingSet = "CAP_NET_ADMIN";
              RestrictAddressFamilies = "AF_NETLINK";
              PrivateNetwork = false;
              PrivateUsers = false;
            }
          )
          // {
            Type = "oneshot";
            RemainAfterExit = true;
            ExecStart = map (words: "${lib.getExe' pkgs.ipset "ipset"} ${words}") arguments;
          };
      };
}
