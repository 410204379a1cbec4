# A stand-in for the part of NixOS that nix/module.nix and nix/test.nix set and read: the options, with their types, and
# in `config.result` what a machine has after a switch. It is written after the manual; an option that it lacks is an error.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  option = type: default: mkOption { inherit type default; };
  list = type: option (types.listOf type) [ ];
  set = type: option (types.attrsOf type) { };
  flag = option types.bool;

  unit = types.strMatching "[a-zA-Z0-9@%:_.-]+\\.(service|socket|target|timer)";
  scalar = types.oneOf [
    types.bool
    types.int
    types.str
    types.package
  ];
  directive = types.either scalar (types.listOf scalar);
  # What every unit has.
  common = {
    enable = flag true;
    description = option types.str "";
    documentation = list types.str;
    startLimitIntervalSec = option (types.nullOr types.int) null;
    unitConfig = set directive;
  }
  // lib.genAttrs [
    "after"
    "before"
    "conflicts"
    "partOf"
    "requires"
    "wantedBy"
    "wants"
  ] (_: list unit);
  units = extra: set (types.submodule { options = common // extra; });

  openPorts = {
    # As NixOS has it, this forgets who asked for a port, and how often.
    allowedTCPPorts = list types.port // {
      apply = lib.unique;
    };
    allowedUDPPorts = list types.port // {
      apply = lib.unique;
    };
    allowedTCPPortRanges = list (types.attrsOf types.port);
    allowedUDPPortRanges = list (types.attrsOf types.port);
  };
  addresses = list (
    types.submodule {
      options.address = mkOption { type = types.str; };
      options.prefixLength = mkOption { type = types.int; };
    }
  );
in
{
  imports = [ ./result.nix ];

  options = {
    assertions = list types.anything;
    warnings = list types.str;
    system.checks = list types.package;
    environment.systemPackages = list types.package;
    environment.etc = set (types.submodule { options.source = mkOption { type = types.package; }; });
    users.groups = set (types.attrsOf types.anything);
    users.users = set (types.attrsOf types.anything);

    networking.firewall = openPorts // {
      enable = flag true;
      interfaces = set (types.submodule { options = openPorts; });
      trustedInterfaces = list types.str;
      extraCommands = option types.lines "";
      extraInputRules = option types.lines "";
    };
    networking.nftables.enable = flag false;
    networking.nftables.flushRuleset = flag false;
    networking.interfaces = set (
      types.submodule {
        options.ipv4.addresses = addresses;
        options.ipv6.addresses = addresses;
      }
    );
    services.openssh.enable = flag false;
    services.openssh.ports = option (types.listOf types.port) [ 22 ];
    services.redis.servers = set (
      types.submodule {
        options.enable = flag false;
        options.port = option types.port 0;
      }
    );
    services.rpcbind.enable = flag false;
    services.samba.enable = flag false;
    services.memcached.enable = flag false;
    services.memcached.port = option types.port 11211;
    virtualisation.oci-containers.containers = set (
      types.submodule { options.ports = list types.str; }
    );

    systemd.tmpfiles.settings = set (types.attrsOf (types.attrsOf (types.attrsOf types.str)));
    systemd.package = option types.package pkgs.systemd;
    systemd.targets = units { };
    systemd.timers = units { timerConfig = set directive; };
    systemd.sockets = units {
      listenStreams = list types.str;
      listenDatagrams = list types.str;
      socketConfig = set directive;
    };
    systemd.services = units {
      path = list (types.either types.package types.str);
      enableDefaultPath = flag true;
      notSocketActivated = flag false;
      stopIfChanged = flag true;
      serviceConfig = set directive;
    };
  };

  config = lib.mkMerge [
    # As NixOS has it.
    { networking.firewall.trustedInterfaces = [ "lo" ]; }
    (lib.mkIf config.services.openssh.enable {
      networking.firewall.allowedTCPPorts = config.services.openssh.ports;
    })
  ];
}
