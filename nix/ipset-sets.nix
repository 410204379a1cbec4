# The sets of the backend ipset, empty, before the firewall: rules that match sets which are not there are not loaded.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.psentry;
  # As units/psentry-ipset-sets.service makes them; a test compares both.
  sets =
    lib.concatMap
      (
        version:
        let
          family = if version == "6" then "inet6" else "inet";
          set =
            name: type:
            "-exist create psentry${version}${name} hash:${type} family ${family} timeout 0 maxelem 262144 comment";
        in
        [
          (set "" "net")
          (set "_ports" "net,port")
          (set "_unproven" "net")
          (set "_unproven_ports" "net,port")
        ]
      )
      [
        "4"
        "6"
      ];
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
            ExecStart = map (set: "${lib.getExe' pkgs.ipset "ipset"} ${set}") sets;
          };
      };
}
