# The options of services.psentry.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.psentry;
  inherit (lib)
    literalExpression
    mkEnableOption
    mkOption
    mkPackageOption
    types
    ;

  decoys = import ./decoys.nix;
  ports = types.listOf (types.ints.between 1 65535);
  time = types.strMatching "[0-9]+[a-zA-Z0-9 ]*";
  # What a flag can be given: nothing for null and false, the flag alone for true, and else a value or several.
  flag =
    let
      one = types.oneOf [
        types.bool
        types.int
        types.str
      ];
    in
    types.nullOr (types.either one (types.listOf one));
  flagsFor =
    program:
    mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "--host=edge-1" ];
      description = "More flags for {command}`${program}`, besides those that options give; see {manpage}`${program}(8)`.";
    };
  policyOption =
    type: default: description:
    mkOption {
      type = types.nullOr type;
      default = null;
      description = "${description} With `null` it is the program's default: ${default}.";
    };
in
{
  options.services.psentry = {
    enable = mkEnableOption "psentry, which notices hosts that probe ports nobody has a reason to touch";
    package = mkPackageOption pkgs "psentry" { };

    tcpPorts = mkOption {
      type = ports;
      default = decoys.tcp;
      example = [
        23
        2222
        3389
      ];
      description = ''
        TCP ports that are decoys: nothing is behind them, and whoever touches two of them is a scanner.
        A port that a service of this machine uses must not be among them.
      '';
    };
    udpPorts = mkOption {
      type = ports;
      default = decoys.udp;
      example = [ 161 ];
      description = ''
        UDP ports that are decoys.
        The source of a datagram can be forged, so what is seen there shuts out for a minute only.
      '';
    };
    openFirewall = mkOption {
      type = types.bool;
      default = true;
      description = ''
        Whether to open the decoys in the firewall, on all interfaces.
        A decoy that the firewall hides sees nobody. To have decoys on one interface only, set this to `false` and name
        them in {option}`networking.firewall.interfaces.<name>.allowedTCPPorts`.
      '';
    };

    ignore = mkOption {
      type = types.listOf types.str;
      default = [
        "127.0.0.0/8"
        "::1"
      ];
      example = [
        "192.0.2.0/24"
        "2001:db8::/32"
      ];
      description = ''
        Addresses and prefixes that are never judged. A definition replaces the default.
        Put there from where this machine is administered and monitored. Its own addresses and its gateways are never
        blocked in any case.
      '';
    };
    observe = mkOption {
      type = types.bool;
      default = true;
      description = ''
        Whether to observe only: {file}`/var/log/psentry/records.jsonl` says who would be shut out, and nobody is.
        It is so at first, so that you see whom it would hit; set it to `false` to have psentry block.
      '';
    };
    policy = mkOption {
      default = { };
      example = {
        trigger = 1;
        duration = "1d";
      };
      description = ''
        By what {command}`psentry-judge` decides. A name that is no option here is passed on as a flag of that name; one
        that the program does not know, or a value that it does not take, fails the build.
      '';
      type = types.submodule {
        freeformType = types.attrsOf flag;
        options = {
          trigger = policyOption types.ints.positive "two different decoys convict" ''
            How many different decoys convict. `1` convicts at the first touch.
          '';
          window = policyOption time "`15m`" "How long a touch counts.";
          duration = policyOption time "`1h`" ''
            How long a block lasts when completed handshakes prove the address.
          '';
          unproven = policyOption time "`1m`" "How long a block lasts when the packets could be forged.";
          max-sources = policyOption types.ints.positive "`100000`" ''
            How many sources to remember; the one that was seen longest ago is forgotten first.
          '';
        };
      };
    };

    block = {
      enable = mkOption {
        type = types.bool;
        default = true;
        description = ''
          Whether to run {command}`psentry-block`. Without it there are probes and verdicts in the log, and nothing that
          could act on them.
        '';
      };
      backends = mkOption {
        type = types.listOf (
          types.enum [
            "nft"
            "iptables"
            "ipset"
            "route"
            "exec"
            "dry-run"
          ]
        );
        default = [ "nft" ];
        example = [
          "nft"
          "exec"
        ];
        description = ''
          How to block; see {manpage}`psentry-block(8)`. `nft` keeps a table of its own, `inet psentry`, beside whatever
          firewall there is. `exec` runs {option}`services.psentry.block.exec` in the sandbox of the service, which has
          no network: to give it one, set {option}`systemd.services.psentry-block.serviceConfig`.
        '';
      };
      maxBlocks = mkOption {
        type = types.nullOr types.ints.positive;
        default = null;
        description = "The most blocks that stand at a time. With `null` it is the program's default: `100000`.";
      };
      exec = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = literalExpression "\"\${lib.getExe pkgs.my-ban} --seconds {duration} {scope}\"";
        description = "The command that blocks, for the backend `exec`.";
      };
      execUndo = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = literalExpression "\"\${lib.getExe pkgs.my-ban} --undo {scope}\"";
        description = "The command that ends a block, for the backend `exec`. Without it, blocks end by themselves.";
      };
    };

    selftest.enable = mkOption {
      type = types.bool;
      default = cfg.openFirewall || !config.networking.firewall.enable;
      defaultText = literalExpression "config.services.psentry.openFirewall || !config.networking.firewall.enable";
      description = ''
        Whether to touch the decoys once an hour from a network namespace, and to fail {command}`psentry-selftest` and
        write a critical line to the journal when nobody notices. The decoys have to be open to all interfaces.
      '';
    };

    extraFlags = {
      listen = flagsFor "psentry-listen";
      judge = flagsFor "psentry-judge";
      block = flagsFor "psentry-block";
    };
  };
}
