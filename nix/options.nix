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
        TCP ports that are decoys: nothing is behind them, and whoever touches two of them is a scanner.

        Of the default list, ports are left out that another service of this machine has: sshd, services of NixOS that are
        enabled, socket units, published ports of containers, and whatever {option}`networking.firewall` opens. Such a port
        that you write here yourself is an error.

        A definition replaces the default list; `lib.mkOptionDefault [ 2222 ]` adds to it.
      '';
    };
    udpPorts = mkOption {
      type = ports;
      default = defaults.udp;
      apply = free "udp";
      example = [ 161 ];
      description = ''
        UDP ports that are decoys, to which applies what {option}`services.psentry.tcpPorts` says.
        The source of a datagram can be forged, so what is seen there blocks for a minute only.
      '';
    };
    openFirewall = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = ''
        Whether to open the decoys in the firewall, on all interfaces. A decoy that the firewall hides sees nobody, and
        there is a warning if that is so.

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
        Addresses and prefixes that are neither judged nor trapped nor blocked, besides `127.0.0.0/8` and `::1`, which
        always are among them. Put there from where this machine is administered and monitored, and its time servers. Its
        own addresses, its gateways and its resolvers are never blocked in any case, nor is who is logged in.
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
        Whether anybody is shut out, by the judge's verdicts or by the trap. With `observe` nobody is:
        {file}`/var/log/psentry/records.jsonl` says who would be, so that you see whom it would hit. Set it to `block` when
        you have seen that.
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
        The text of {file}`/etc/psentry/ports`, which says what a packet to a closed port means, in the statements of
        {manpage}`psentry-trap(8)`. It replaces the text that is compiled in, which is used with `null`.
      '';
    };

    trap = {
      enable = mkOption {
        type = types.bool;
        default = true;
        example = false;
        description = ''
          Whether to run {command}`psentry-trap`, which blocks for seconds, in the kernel, whoever sends a packet to a
          port that no service uses. With {option}`services.psentry.mode` at `observe` it only reports them.
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
        description = "What becomes of packets that are not let through: `reject` answers as a closed port does.";
      };
      exceptPorts = mkOption {
        type = types.listOf (types.either (types.ints.between 1 65535) (types.strMatching "[0-9]+-[0-9]+"));
        default = [ ];
        example = [
          6881
          "27000-27050"
        ];
        description = ''
          Ports and ranges that are no trap, TCP and UDP alike, such as those at which clients call that nobody serves
          any more. What listens, or did within ten minutes, is no trap anyway.
        '';
      };
      mirage = mkOption {
        type = types.either types.bool port;
        default = false;
        example = true;
        description = ''
          Whether {command}`psentry-listen` answers at every port that no service uses, so that all ports look open, the
          real ones among them, and each connection proves its address. It does so by one socket, on port 61999, or on
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
        description = "How many files of the log there are at most, the one that is written included.";
      };
    };

    block = {
      enable = mkOption {
        type = types.bool;
        default = true;
        description = ''
          Whether verdicts are carried out. Without it {command}`psentry-block` only keeps the log, and says in it what
          it would do, as its backend `dry-run`: nobody is blocked but for seconds, by
          {option}`services.psentry.trap.enable`.
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
          How to block, in this order; see {manpage}`psentry-block(8)`. `nft` keeps a table of its own, `inet psentry`, beside
          whatever firewall there is. Each has the rights that it takes, and no others. `exec` runs
          {option}`services.psentry.block.exec` in the sandbox of the service. The program's `hosts-deny` is no choice here,
          since NixOS' sshd and most services of today do not read {file}`/etc/hosts.deny`, and whoever may write there may
          become root.
        '';
      };
      answer = mkOption {
        type = types.enum [
          "drop"
          "reject"
        ];
        default = "drop";
        description = ''
          What a source that is blocked is answered: nothing, or that it is refused. See {manpage}`psentry-block(8)` on
          how far a block reaches, and on what each backend can do.
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
        description = "Whether what this machine only forwards, to containers or to networks behind it, is blocked, too.";
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
          What becomes of established connections when their source is blocked and handshakes prove who it is: nothing of
          them arrives any more, they go on, or they are ended at once. Those of other sources always go on.
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
          In at most so many new networks (a /24 of IPv4, a /48 of IPv6) a minute are blocks made that no handshake proves;
          more are refused, so that whoever forges packets from everywhere blocks no more than that. Proven blocks are
          never held up: their limit is {option}`services.psentry.block.maxBlocks`. The judge has a brake of its own,
          `brake.unproven` in {option}`services.psentry.settings`, which is lower and holds first; this one holds where
          verdicts come from elsewhere. With `null` there is no limit.
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
        description = "The ports at which people log in. Who is logged in there is blocked when he has logged out.";
      };
      exec = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = literalExpression ''
          "''${lib.getExe' pkgs.iproute2 "ip"} route replace blackhole {scope} proto 99"
        '';
        description = ''
          The command that blocks, for the backend `exec`. It may change the firewall and routes, and no files, and has a
          network only with {option}`services.psentry.block.execNetwork`. Its program must lie in the Nix store: it is looked for when
          the machine is built, where there is nothing else.
        '';
      };
      execUndo = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = literalExpression ''
          "''${lib.getExe' pkgs.iproute2 "ip"} route delete blackhole {scope} proto 99"
        '';
        description = "The command that ends a block, for the backend `exec`. Without it, blocks end by themselves.";
      };
      execNetwork = mkOption {
        type = types.bool;
        default = false;
        description = "Whether the commands of the backend `exec` have a network, to ask a router or a provider.";
      };
    };

    selftest.enable = mkOption {
      type = types.bool;
      default =
        (cfg.tcpPorts != [ ] || cfg.udpPorts != [ ])
        && (cfg.openFirewall || !config.networking.firewall.enable);
      defaultText = lib.literalMD "`true` if there are decoys that no firewall hides";
      description = ''
        Whether to touch the decoys once an hour from a network namespace, and to fail {command}`psentry-selftest` and
        write a critical line to the journal when nobody notices. The decoys have to be open to all interfaces.
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
