# The options of services.psentry.
{
  config,
  lib,
  options,
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

  occupied = import ./occupied.nix { inherit config lib options; };
  inherit (import ./decoys.nix { inherit config lib options; }) isDefault;
  defaults = import ./default-decoys.nix;
  # No types.port, which has 0 among its values.
  port = types.ints.between 1 65535;
  ports = types.listOf port;
  # Of the ports that nobody wrote, those that nothing else has.
  free =
    protocol:
    let
      openers = port: lib.concatLists (lib.attrValues (occupied.openers protocol port));
      isFree = port: occupied.users protocol port == [ ] && openers port == [ ];
    in
    lib.filter (port: isDefault protocol port -> isFree port);
  # As the tools write times: "10m", "1d 12h"; or a number of seconds.
  time = types.either types.ints.positive (types.strMatching "[0-9]+[a-zA-Z0-9 ]*|forever");
  argsFor =
    program: example:
    mkOption {
      type = types.listOf types.str;
      default = [ ];
      inherit example;
      description = ''
        More command-line arguments for {command}`${program}`, after those that the other options give; see
        {manpage}`${program}(8)`.
      '';
    };
in
{
  options.services.psentry = {
    enable = mkEnableOption "psentry, which notices hosts that probe ports nobody has a reason to touch";
    package = mkPackageOption pkgs "psentry" { };

    tcpPorts = mkOption {
      type = ports;
      default = defaults.tcp;
      apply = free "tcp";
      example = [
        23
        2222
        3389
      ];
      description = ''
        TCP ports that are decoys: no service is behind them, and a source that touches two of them is convicted.

        The default list leaves out ports that this machine itself uses: those of sshd, of enabled services of NixOS, of
        socket units and of published containers, and those that {option}`networking.firewall` opens. Such a port
        in your own list is an error.

        A definition replaces the default list; `lib.mkOptionDefault [ 2222 ]` adds to it.
      '';
    };
    udpPorts = mkOption {
      type = ports;
      default = defaults.udp;
      apply = free "udp";
      example = [ 161 ];
      description = ''
        UDP ports that are decoys, as {option}`services.psentry.tcpPorts` describes them.
        The source of a datagram can be forged, so datagrams block their source only for a minute.
      '';
    };
    openFirewall = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = ''
        Whether to open the decoys in the firewall, on all interfaces. A decoy that the firewall hides sees nobody, which
        causes a warning.

        To have decoys on one interface only, leave this at `false`, define {option}`services.psentry.tcpPorts` and
        {option}`services.psentry.udpPorts`, and name the same ports in
        {option}`networking.firewall.interfaces.<name>.allowedTCPPorts` and its like for UDP.
      '';
    };

    ignore = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [
        "192.0.2.0/24"
        "2001:db8::/32"
      ];
      description = ''
        Addresses and prefixes that are never judged, trapped or blocked, besides `127.0.0.0/8` and `::1`, which
        are always included. List the networks from which this machine is administered and monitored, and its time servers. Its
        own addresses, its gateways and its resolvers are never blocked in any case, and neither is an address from which
        somebody is logged in.
      '';
    };
    mode = mkOption {
      type = types.enum [
        "observe"
        "block"
      ];
      default = "observe";
      example = "block";
      description = ''
        Whether the judge's verdicts and the trap shut anybody out. With `observe` they do not:
        {file}`/var/log/psentry/records.jsonl` only shows which sources would be shut out. Set it to `block` when you have
        checked these.
      '';
    };
    settings = import ./settings.nix { inherit lib pkgs time; };
    ports = mkOption {
      type = types.nullOr types.lines;
      default = null;
      example = ''
        chatter udp/5353
        sibling tcp/443 of tcp/80
        worm tcp/23
      '';
      description = ''
        The text of {file}`/etc/psentry/ports`, which classifies packets to closed ports by the statements of
        {manpage}`psentry-trap(8)`. It replaces the text that is compiled in, which is used with `null`.
      '';
    };

    trap = {
      enable = mkOption {
        type = types.bool;
        default = true;
        example = false;
        description = ''
          Whether to run {command}`psentry-trap`, which blocks the source of each packet to a port that no service uses, for
          seconds, in the kernel. With {option}`services.psentry.mode` at `observe` it only records them.
        '';
      };
      quarantine = mkOption {
        type = types.nullOr time;
        default = null;
        example = "1m";
        description = ''
          How long a source is blocked after its last probe, at most an hour. With `null` it is the program's default:
          `30s`.
        '';
      };
      answer = mkOption {
        type = types.enum [
          "drop"
          "reject"
        ];
        default = "drop";
        description = "How packets that are not let through are answered: `reject` answers as a closed port does.";
      };
      exceptPorts = mkOption {
        type = types.listOf (types.either (types.ints.between 1 65535) (types.strMatching "[0-9]+-[0-9]+"));
        default = [ ];
        example = [
          6881
          "27000-27050"
        ];
        description = ''
          Ports and ranges that the trap does not watch, for TCP and UDP, such as the port of a removed service to which clients
          still connect. Ports at which a service listens, or did within ten minutes, are never traps.
        '';
      };
      veil = mkOption {
        type = types.listOf (types.either (types.ints.between 1 65535) (types.strMatching "[0-9]+-[0-9]+"));
        default = [ ];
        example = [ 22 ];
        description = ''
          TCP ports and ranges at which the first packet of a stranger is dropped: a client's kernel sends it again after a
          second, and a half-open scanner does not see the port. See THE VEIL in {manpage}`psentry-trap(8)`.
        '';
      };
      hide = mkOption {
        type = types.listOf (types.either (types.ints.between 1 65535) (types.strMatching "[0-9]+-[0-9]+"));
        default = [ ];
        example = [ 22 ];
        description = ''
          Ports and ranges, of TCP and UDP, that are closed ports to whoever is not vouched for: a scanner does not see them. Vouched
          for is whom {option}`services.psentry.ignore` names, and for a week whoever logged in by ssh. See HIDDEN PORTS in
          {manpage}`psentry-trap(8)`.
        '';
      };
      vouchLogins = mkOption {
        type = types.bool;
        default = cfg.trap.hide != [ ];
        defaultText = lib.literalExpression "config.services.psentry.trap.hide != [ ]";
        example = true;
        description = ''
          Whether a login by ssh vouches for its address: the judge only watches it, and the trap shows it hidden ports, for a
          week.
        '';
      };
      mirage = mkOption {
        type = types.either types.bool port;
        default = false;
        example = true;
        description = ''
          Whether {command}`psentry-listen` answers at every port that no service uses, so that all ports look open, the
          real ones cannot be recognized, and each connection proves its address. It uses one socket, on port 61999, or on
          the port that is given here.
        '';
      };
    };

    log = {
      size = mkOption {
        type = types.strMatching "[0-9]+[KMG]?";
        default = "16M";
        example = "64M";
        description = ''
          How large {file}`/var/log/psentry/records.jsonl` may become before it is rotated to {file}`records.jsonl.1`.
        '';
      };
      files = mkOption {
        type = types.ints.between 2 1000;
        default = 20;
        example = 5;
        description = "The most files of the log, including the current one.";
      };
    };

    block = {
      enable = mkOption {
        type = types.bool;
        default = true;
        description = ''
          Whether verdicts are carried out. Without it {command}`psentry-block` only writes the log and records what
          it would do, by its backend `dry-run`; only the trap of {option}`services.psentry.trap.enable` blocks anybody, for
          seconds.
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
          How to block, in this order; see {manpage}`psentry-block(8)`. `nft` has a table of its own, `inet psentry`, beside
          any other firewall. Each backend gets the rights that it needs, and no others. `exec` runs
          {option}`services.psentry.block.exec` in the sandbox of the service. The program's `hosts-deny` cannot be chosen here,
          because sshd of NixOS and most current services do not read {file}`/etc/hosts.deny`, and a process that may write
          there can become root.
        '';
      };
      answer = mkOption {
        type = types.enum [
          "drop"
          "reject"
        ];
        default = "drop";
        description = ''
          What a blocked source is answered: nothing, or a rejection. See {manpage}`psentry-block(8)` on the reach of a block,
          and on what each backend supports.
        '';
      };
      ports = mkOption {
        type = types.enum [
          "all"
          "probed"
        ];
        default = "all";
        description = "Which ports are blocked for the source: all of them, or those that it probed.";
      };
      forward = mkOption {
        type = types.bool;
        default = true;
        description = "Whether packets that this machine forwards, to containers or to networks behind it, are blocked, too.";
      };
      egress = mkOption {
        type = types.bool;
        default = false;
        description = "Whether packets to the source are dropped, too.";
      };
      established = mkOption {
        type = types.enum [
          "starve"
          "spare"
          "cut"
        ];
        default = "starve";
        description = ''
          What happens to established connections of a blocked source whose address handshakes prove: their packets are dropped
          (`starve`), they go on (`spare`), or they are ended at once (`cut`). Those of unproven sources always go on.
        '';
      };
      maxBlocks = mkOption {
        type = types.nullOr (types.ints.between 1 1000000);
        default = null;
        example = 20000;
        description = "The most blocks at a time. With `null` it is the program's default: `100000`.";
      };
      brake = mkOption {
        type = types.nullOr types.str;
        default = "600/min";
        example = "60/min";
        description = ''
          The most new networks (a /24 of IPv4, a /48 of IPv6) a minute in which unproven blocks are made;
          more are refused, so that packets with forged sources block no more than that. Proven blocks are not
          limited by it: their limit is {option}`services.psentry.block.maxBlocks`. The judge has a brake of its own,
          `brake.unproven` in {option}`services.psentry.settings`, which is lower and holds first; this one is for
          verdicts from elsewhere. With `null` there is no limit.
        '';
      };
      loginPorts = mkOption {
        type = ports;
        default =
          if config.services.openssh.enable then lib.unique config.services.openssh.ports else [ 22 ];
        defaultText = literalExpression "if config.services.openssh.enable then config.services.openssh.ports else [ 22 ]";
        example = [
          22
          2222
        ];
        description = "The ports at which people log in. An address from which somebody is logged in there is blocked only after the logout.";
      };
      exec = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = literalExpression ''
          "''${lib.getExe' pkgs.iproute2 "ip"} route replace blackhole {scope} proto 99"
        '';
        description = ''
          The command that blocks, for the backend `exec`. It may change the firewall and routes, but no files, and has a
          network only with {option}`services.psentry.block.execNetwork`. Its program must be in the Nix store, because the build of
          the machine checks that it exists.
        '';
      };
      execUndo = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = literalExpression ''
          "''${lib.getExe' pkgs.iproute2 "ip"} route delete blackhole {scope} proto 99"
        '';
        description = "The command that ends a block, for the backend `exec`. Without it, the command of {option}`services.psentry.block.exec` has to end its own blocks.";
      };
      execNetwork = mkOption {
        type = types.bool;
        default = false;
        description = "Whether the commands of the backend `exec` have a network, for example to reach a router or a provider.";
      };
    };

    selftest.enable = mkOption {
      type = types.bool;
      default =
        (cfg.tcpPorts != [ ] || cfg.udpPorts != [ ])
        && (cfg.openFirewall || !config.networking.firewall.enable);
      defaultText = lib.literalMD "`true` if there are decoys that no firewall hides";
      description = ''
        Whether to touch the decoys once an hour from a network namespace. If this is not noticed,
        {command}`psentry-selftest` fails and writes a critical message to the journal. The decoys have to be open to all
        interfaces.
      '';
    };

    extraArgs = {
      listen = argsFor "psentry-listen" [ "--host=edge-1" ];
      judge = argsFor "psentry-judge" [ "--host=edge-1" ];
      trap = argsFor "psentry-trap" [ "--served=1m" ];
      block = argsFor "psentry-block" [ "--exec-timeout=5s" ];
    };
  };
}
