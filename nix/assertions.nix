# What cannot work is refused, in sentences that say what to do.
{
  config,
  lib,
  options,
  ...
}:
let
  cfg = config.services.psentry;
  firewall = options.networking.firewall;

  # All definitions of a list, one after the other: the option's own value holds each port once only, so that it would
  # not tell a port that psentry alone opens from one that somebody else opens, too.
  defined = option: lib.concatLists option.definitions;

  # The ports of the sockets that other units listen on.
  portOf =
    stream:
    let
      found = builtins.match "(.*:)?([0-9]+)" (toString stream);
    in
    lib.optional (found != null) (lib.last found);
  listening =
    kind: directive:
    lib.concatLists (
      lib.mapAttrsToList (
        name: socket:
        lib.optionals (socket.enable && !(lib.hasPrefix "psentry-" name)) (
          map (port: {
            inherit name port;
          }) (lib.concatMap portOf (socket.${kind} ++ lib.toList (socket.socketConfig.${directive} or [ ])))
        )
      ) config.systemd.sockets
    );

  # What is wrong with a decoy: a list of assertions.
  sound =
    {
      list,
      allowed,
      ranges,
      sockets,
      ssh,
    }:
    port:
    let
      decoy = "services.psentry.${list} names port ${toString port}";
      remove = "Take ${toString port} off services.psentry.${list}";
      own = if cfg.openFirewall then 1 else 0;
      range = lib.filter (range: range.from <= port && port <= range.to) (defined firewall.${ranges});
      units = lib.filter (socket: socket.port == toString port) sockets;
    in
    [
      {
        assertion = !(lib.elem port ssh);
        message = "${decoy}, where sshd listens (services.openssh.ports): whoever logs in would be taken for a scanner. ${remove}.";
      }
      {
        assertion =
          lib.elem port ssh || lib.count (open: open == port) (defined firewall.${allowed}) <= own;
        message = "${decoy}, which networking.firewall.${allowed} opens for something else. ${remove}; or, if nothing uses the port, off networking.firewall.${allowed}, since services.psentry.openFirewall opens the decoys.";
      }
      {
        assertion = range == [ ];
        message = "${decoy}, which lies in a range that networking.firewall.${ranges} opens for something else. ${remove}, or choose a narrower range.";
      }
      {
        assertion = units == [ ];
        message = "${decoy}, on which ${
          lib.concatMapStringsSep ", " (socket: "${socket.name}.socket") units
        } listens. ${remove}.";
      }
    ];

  xtables = lib.filter (backend: backend == "iptables" || backend == "ipset") cfg.block.backends;
in
{
  config.assertions = lib.mkIf cfg.enable (
    lib.concatMap (sound {
      list = "tcpPorts";
      allowed = "allowedTCPPorts";
      ranges = "allowedTCPPortRanges";
      sockets = listening "listenStreams" "ListenStream";
      ssh = lib.optionals config.services.openssh.enable config.services.openssh.ports;
    }) (lib.unique cfg.tcpPorts)
    ++ lib.concatMap (sound {
      list = "udpPorts";
      allowed = "allowedUDPPorts";
      ranges = "allowedUDPPortRanges";
      sockets = listening "listenDatagrams" "ListenDatagram";
      ssh = [ ];
    }) (lib.unique cfg.udpPorts)
    ++ [
      {
        assertion = cfg.tcpPorts != [ ] || cfg.udpPorts != [ ];
        message = "services.psentry has no decoy port, and without one nobody is ever noticed. Put ports that nothing uses into services.psentry.tcpPorts or services.psentry.udpPorts.";
      }
      {
        assertion = cfg.block.enable -> cfg.block.backends != [ ];
        message = "services.psentry.block.backends is empty, so that nothing could be blocked. Name a backend there, such as \"nft\", or set services.psentry.block.enable = false.";
      }
      {
        assertion = cfg.block.enable -> xtables == [ ] || !config.networking.nftables.enable;
        message = "services.psentry.block.backends names ${lib.concatStringsSep " and " xtables}, but with networking.nftables.enable this machine's firewall is nftables. Set services.psentry.block.backends = [ \"nft\" ].";
      }
      {
        assertion = lib.elem "exec" cfg.block.backends == (cfg.block.exec != null);
        message = "services.psentry.block.exec is the command of the backend \"exec\": set both or neither of it and \"exec\" in services.psentry.block.backends.";
      }
    ]
  );
}
