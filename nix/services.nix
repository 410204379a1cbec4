# The stages of psentry as services, each with a sandbox of its own, and the check of their settings at build time.
{
  config,
  lib,
  pkgs,
  utils,
  ...
}:
let
  cfg = config.services.psentry;
  inherit (lib) mkIf mkMerge optional;

  sandbox = import ./sandbox.nix;

  # A service, from its own rights, where they differ from the sandbox, and what it does otherwise than the rest. The sandbox
  # is made of defaults, so that a configuration's own serviceConfig wins without mkForce.
  service =
    rights: extra:
    mkMerge [
      {
        partOf = [ "psentry.target" ];
        startLimitIntervalSec = 0;
        # A switch restarts the stage alone: its sockets stay, and what is on its way waits in them.
        notSocketActivated = true;
        stopIfChanged = false;
        enableDefaultPath = false;
        serviceConfig = lib.mapAttrs (_: lib.mkDefault) (sandbox // rights) // {
          Type = lib.mkDefault "exec";
          StandardError = "journal";
          Restart = "always";
          RestartSec = "1s";
        };
      }
      extra
    ];
  # The service of a stage.
  stage =
    name: rights: extra:
    service rights (mkMerge [
      {
        documentation = [ "man:psentry-${name}(8)" ];
        serviceConfig = {
          ExecStart = utils.escapeSystemdExecArgs ([ (program name) ] ++ flags.${name});
          Nice = lib.mkDefault (-15);
        };
      }
      extra
    ]);
  program = name: lib.getExe' cfg.package "psentry-${name}";

  # { trigger = 2; observe = true; } -> [ "--observe" "--trigger=2" ]; one word each, so that no value can be a flag.
  toFlags =
    settings:
    lib.concatLists (
      lib.mapAttrsToList (
        name: value:
        if value == null || value == false then
          [ ]
        else if value == true then
          [ "--${name}" ]
        else
          map (one: "--${name}=${toString one}") (lib.toList value)
      ) settings
    );
  flags = {
    listen = cfg.extraArgs.listen;
    judge = [
      "--pass"
      "--policy"
      "${policy}"
      "--ignore"
      "${ignore}"
      "--state"
      "/var/lib/psentry-judge"
    ]
    ++ toFlags { observe = cfg.mode == "observe"; }
    ++ cfg.extraArgs.judge;
    trap = [
      "--allow"
      "${ignore}"
      "--state"
      "/var/lib/psentry-trap"
      "--grace"
      "2m"
    ]
    ++ toFlags {
      observe = cfg.mode == "observe";
      inherit (cfg.trap) quarantine;
      answer = if cfg.trap.answer == "drop" then null else cfg.trap.answer;
      except = cfg.trap.exceptPorts;
      veil = cfg.trap.veil;
      hide = cfg.trap.hide;
      mirage = if cfg.trap.mirage == true then 61999 else cfg.trap.mirage;
    }
    ++ cfg.extraArgs.trap;
    block = [
      "--pass"
      "--log"
      "/var/log/psentry/records.jsonl,${cfg.log.size},${toString cfg.log.files}"
      "--state"
      "/var/lib/psentry-block"
      "--allow"
      "${ignore}"
    ]
    ++ toFlags (
      if cfg.block.enable then
        {
          answer = if cfg.block.answer == "drop" then null else cfg.block.answer;
          backend = cfg.block.backends;
          cut = cfg.block.established == "cut";
          egress = if cfg.block.egress then "yes" else null;
          forward = if cfg.block.forward then null else "no";
          ports = if cfg.block.ports == "all" then null else cfg.block.ports;
          spare-established = cfg.block.established == "spare";
          max-blocks = cfg.block.maxBlocks;
          login-ports = lib.concatMapStringsSep "," toString cfg.block.loginPorts;
          inherit (cfg.block) brake exec;
          exec-undo = cfg.block.execUndo;
        }
      else
        { backend = "dry-run"; }
    )
    ++ cfg.extraArgs.block;
  };
  # Loopback is left alone whatever else is.
  loopback = [
    "127.0.0.0/8"
    "::1"
  ];
  ignore = pkgs.writeText "psentry-ignore" (
    lib.concatMapStrings (line: line + "\n") (lib.unique (loopback ++ cfg.ignore))
  );
  # Without the options that are not set; TOML has no null.
  policy = (pkgs.formats.toml { }).generate "psentry-policy.toml" (
    lib.filterAttrsRecursive (_: value: value != null) cfg.settings
  );

  # Without it no backend does anything; the log is kept all the same.
  backends = lib.optionals cfg.block.enable (lib.unique cfg.block.backends);
  # What the backends run.
  programs = lib.concatMap (
    backend:
    {
      nft = [ pkgs.nftables ];
      iptables = [ pkgs.iptables ];
      ipset = [
        pkgs.ipset
        pkgs.iptables
      ];
    }
    .${backend} or [ ]
  ) backends;

  # Without a socket the listener would end at once.
  decoys = cfg.tcpPorts != [ ] || cfg.udpPorts != [ ] || cfg.trap.mirage != false;
  running =
    optional decoys "listen"
    ++ [
      "judge"
      "block"
    ]
    ++ optional cfg.trap.enable "trap";

  # A wrong setting fails here, in the words of the program that it is for, and not after the switch.
  check = pkgs.runCommand "psentry-check" { nativeBuildInputs = programs; } (
    lib.concatMapStrings (
      name: "${program name} --check ${lib.escapeShellArgs flags.${name}}\n"
    ) running
    + "touch $out\n"
  );

  blockRights = import ./rights.nix {
    inherit lib backends;
    inherit (cfg.block) enable execNetwork;
  };
  # With capset the half that reads what strangers sent drops every privilege; the ports of the machine's own clients are
  # in /proc/sys/net; its sockets are to the kernel, and to say that it is ready.
  trapRights = {
    CapabilityBoundingSet = "CAP_NET_ADMIN";
    AmbientCapabilities = "CAP_NET_ADMIN";
    RestrictAddressFamilies = "AF_NETLINK AF_UNIX";
    PrivateNetwork = false;
    PrivateUsers = false;
    SystemCallFilter = sandbox.SystemCallFilter ++ [ "capset" ];
    ProcSubset = "all";
  };
in
{
  config = mkIf cfg.enable {
    system.checks = optional (pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform) check;

    # For people, who judge old records again. The services read the store, so that a change restarts them.
    environment.etc."psentry/ignore".source = ignore;
    environment.etc."psentry/policy.toml".source = policy;
    # Trap and judge read it there, and follow its changes.
    environment.etc."psentry/ports" = mkIf (cfg.ports != null) {
      source = pkgs.writeText "psentry-ports" cfg.ports;
    };

    systemd.targets.psentry.wants = map (name: "psentry-${name}.service") running;

    systemd.services = {
      psentry-listen = mkIf decoys (
        stage "listen" { } {
          description = "psentry: decoy ports";
          # Stopped before the judge, so that what it still says is judged.
          after = [
            "psentry-judge.service"
            "psentry-events.socket"
          ];
          requires = [ "psentry-events.socket" ];
          serviceConfig = {
            StandardOutput = "file:/run/psentry/events";
            Nice = -10;
            LimitNOFILE = 65536;
          };
        }
      );

      psentry-trap = mkIf cfg.trap.enable (
        stage "trap" trapRights {
          description = "psentry: every closed port";
          after = [
            "psentry-judge.service"
            "psentry-events.socket"
            "psentry-vouches.socket"
            "nftables.service"
            "firewall.service"
            "network-pre.target"
          ];
          requires = [
            "psentry-events.socket"
            "psentry-vouches.socket"
          ];
          # Ready is: the rules are loaded. That is before the network is up; who starts before is spared by --grace.
          before = [ "network.target" ];
          path = [ pkgs.nftables ];
          serviceConfig = {
            Type = "notify";
            # Longer than nft may take.
            WatchdogSec = "3min";
            Sockets = "psentry-vouches.socket";
            StandardInput = "socket";
            StandardOutput = "file:/run/psentry/events";
            # Wrong flags or settings: the unit fails, so that it is seen. No stranger can cause these exit codes. Not so for the
            # other stages, which what waits in their sockets would start again at once: they are tried again once a second.
            RestartPreventExitStatus = "64 78";
            # The kernel acts by itself; this is for what is told of it.
            Nice = -10;
            # Which ports were served outlives a restart.
            StateDirectory = "psentry-trap";
            StateDirectoryMode = "0700";
            # Whoever is in the group may ask on the socket that is there.
            Group = "psentry";
            RuntimeDirectory = "psentry-trap";
            RuntimeDirectoryMode = "0755";
          };
        }
      );

      psentry-logins = mkIf (cfg.trap.enable && cfg.trap.vouchLogins) (
        # journalctl connects to journald by a socket, and reads /proc/sys/kernel/random/boot_id.
        service
          {
            RestrictAddressFamilies = "AF_UNIX";
            ProcSubset = "all";
          }
          {
          description = "psentry: vouches for whoever logs in by ssh";
          documentation = [ "man:psentry-trap(8)" ];
          wantedBy = [ "psentry.target" ];
          after = [ "psentry-vouches.socket" ];
          requires = [ "psentry-vouches.socket" ];
          path = [ config.systemd.package ];
          serviceConfig = {
            ExecStart = "${cfg.package}/lib/psentry/logins";
            StandardOutput = "file:/run/psentry/vouches";
            SupplementaryGroups = "systemd-journal";
          };
        }
      );

      psentry-judge = stage "judge" { } {
        description = "psentry: the judge";
        # Stopped before the blocker, so that its last verdicts are carried out.
        after = [
          "psentry-block.service"
          "psentry-events.socket"
          "psentry-verdicts.socket"
        ];
        requires = [
          "psentry-events.socket"
          "psentry-verdicts.socket"
        ];
        serviceConfig = {
          Sockets = "psentry-events.socket";
          StandardInput = "socket";
          StandardOutput = "file:/run/psentry/verdicts";
          ExecReload = "${pkgs.runtimeShell} -c 'kill -HUP $$MAINPID'";
          StateDirectory = "psentry-judge";
          StateDirectoryMode = "0700";
        };
      };

      psentry-block = stage "block" blockRights {
        description = "psentry: the blocker";
        after = [
          "psentry-verdicts.socket"
          "nftables.service"
          "firewall.service"
          "network-pre.target"
        ];
        requires = [ "psentry-verdicts.socket" ];
        path = programs;
        serviceConfig = {
          # Started is: all that is wanted is there again. A slow start is no reason to kill it.
          Type = "notify";
          TimeoutStartSec = "infinity";
          # It tells systemd every minute that its loops are alive; a long restore is no silence.
          WatchdogSec = "2min";
          Sockets = "psentry-verdicts.socket";
          StandardInput = "socket";
          # All records end in its log.
          StandardOutput = "null";
          User = "psentry-block";
          Group = "psentry";
          LogsDirectory = "psentry";
          LogsDirectoryMode = "0750";
          RuntimeDirectory = "psentry-block";
          # Whoever is in the group may ask on the socket that is there.
          RuntimeDirectoryMode = "0755";
          RuntimeDirectoryPreserve = "restart";
          # Blocks outlive a reboot.
          StateDirectory = "psentry-block";
          StateDirectoryMode = "0700";
        };
      };
    };
  };
}
