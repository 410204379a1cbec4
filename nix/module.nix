# The NixOS module of psentry: the services of units/, with options in place of /etc/psentry/psentry.conf. What differs
# from units/, and why, is in tests/nix/cases/default.differs. Nothing here reads a file outside this folder, so that the folder
# can be one of nixpkgs (CONTRIBUTING.md).
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.psentry;
in
{
  imports = [
    ./options.nix
    ./renamed.nix
    ./assertions.nix
    ./firewall.nix
    ./sockets.nix
    ./services.nix
    ./ipset-sets.nix
  ];

  config = lib.mkIf cfg.enable {
    environment.systemPackages = [ cfg.package ];
    # Whoever is in it may write probes into /run/psentry/events, and ask psentry-block who is blocked and why.
    users.groups.psentry = { };
    # The log is its own, and the group reads it; a dynamic user's would be closed to the group.
    users.users.psentry-block = {
      isSystemUser = true;
      group = "psentry";
      description = "Blocker of psentry";
    };
    # The directory of the file that says that a panic holds, which root alone may write.
    systemd.tmpfiles.settings.psentry."/var/lib/psentry".d = {
      mode = "0755";
      user = "root";
      group = "root";
    };

    systemd.targets.psentry = {
      description = "psentry: blocks hosts that probe ports";
      documentation = [ "man:psentry(7)" ];
      wantedBy = [ "multi-user.target" ];
      wants = lib.optional cfg.selftest.enable "psentry-selftest.timer";
    };

    systemd.services.psentry-selftest = lib.mkIf cfg.selftest.enable {
      description = "psentry: does the guard live?";
      documentation = [ "man:psentry(7)" ];
      after = [ "psentry.target" ];
      enableDefaultPath = false;
      path = [
        pkgs.bash
        pkgs.coreutils
        pkgs.gnugrep
        pkgs.gnused
        pkgs.iproute2
        pkgs.nftables
        pkgs.util-linux
        config.systemd.package
      ];
      serviceConfig =
        lib.mapAttrs (_: lib.mkDefault) (
          removeAttrs (import ./sandbox.nix) [ "DynamicUser" ]
          // {
            # Two capabilities to make a network namespace and the cable to it; all files are only read.
            CapabilityBoundingSet = "CAP_NET_ADMIN CAP_SYS_ADMIN";
            RestrictNamespaces = "net";
            PrivateNetwork = false;
            PrivateUsers = false;
            # To the decoys, and to nobody else.
            IPAddressAllow = "link-local";
            # To the kernel, to systemd, and to the decoys.
            RestrictAddressFamilies = "AF_NETLINK AF_UNIX AF_INET";
          }
        )
        // {
          Type = "oneshot";
          ExecStart = "${cfg.package}/lib/psentry/selftest";
          TimeoutStartSec = "2min";
          # Who may read the log.
          SupplementaryGroups = "psentry";
        };
    };

    systemd.timers.psentry-selftest = lib.mkIf cfg.selftest.enable {
      description = "psentry: does the guard live?";
      documentation = [ "man:psentry(7)" ];
      partOf = [ "psentry.target" ];
      # However often the target is restarted.
      unitConfig.StartLimitIntervalSec = 0;
      timerConfig = {
        OnActiveSec = "5min";
        OnUnitActiveSec = "1h";
        RandomizedDelaySec = "5min";
      };
    };
  };
}
