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

  # The ports of enabled services, whether or not the firewall opens them. A decoy holds its port from early boot on, so
  # that the service would not even start. Not all services there are, but those behind ports that scanners love.
  inherit (config) services;
  # An option that is gone from NixOS may be an error to look at.
  enabled =
    service:
    let
      found = builtins.tryEval (service.enable or false);
    in
    found.success && found.value;
  taking =
    name: ports:
    lib.optional (enabled (services.${name} or { })) (ports // { name = "services.${name}"; });
  redis = lib.mapAttrsToList (name: server: {
    name = "services.redis.servers.${name}";
    tcp = lib.optional (enabled server) server.port;
  }) (services.redis.servers or { });
  taken =
    redis
    ++ lib.concatLists (
      lib.mapAttrsToList taking {
        asterisk.udp = [ 5060 ];
        atftpd.udp = [ 69 ];
        elasticsearch.tcp = [ (services.elasticsearch.port or 9200) ];
        kamailio.tcp = [ 5060 ];
        kamailio.udp = [ 5060 ];
        memcached.tcp = [ (services.memcached.port or 11211) ];
        minidlna.udp = [ 1900 ];
        mongodb.tcp = [ 27017 ];
        mysql.tcp = [ (services.mysql.settings.mysqld.port or 3306) ];
        oidentd.tcp = [ 113 ];
        opensearch.tcp = [ 9200 ];
        postgresql.tcp = [ (services.postgresql.settings.port or 5432) ];
        rpcbind.tcp = [ 111 ];
        rpcbind.udp = [ 111 ];
        samba.tcp = [
          139
          445
        ];
        snmpd.udp = [ (services.snmpd.port or 161) ];
        tftpd.udp = [ 69 ];
        vsftpd.tcp = [ 21 ];
        xrdp.tcp = [ (services.xrdp.port or 3389) ];
      }
    );

  # What is wrong with a decoy: a list of assertions.
  sound =
    {
      protocol,
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
      opens =
        if cfg.openFirewall then
          "since services.psentry.openFirewall opens the decoys"
        else
          "and set services.psentry.openFirewall = true, which opens the decoys";
      users = lib.filter (service: lib.elem port (service.${protocol} or [ ])) taken;
      within = lib.filter (range: range.from <= port && port <= range.to);
      range = within (defined firewall.${ranges});
      # What one interface opens, too, is for something else; unless that is how decoys are opened.
      interfaces = lib.optionals cfg.openFirewall (
        builtins.attrNames (
          lib.filterAttrs (
            _: interface: lib.elem port interface.${allowed} || within interface.${ranges} != [ ]
          ) config.networking.firewall.interfaces
        )
      );
      units = lib.filter (socket: socket.port == toString port) sockets;
    in
    [
      {
        assertion = !(lib.elem port ssh);
        message = "${decoy}, where sshd listens (services.openssh.ports): whoever logs in would be taken for a scanner. ${remove}.";
      }
      {
        assertion =
          lib.elem port ssh
          || users != [ ]
          || lib.count (open: open == port) (defined firewall.${allowed}) <= own;
        message = "${decoy}, which networking.firewall.${allowed} opens for something else. ${remove}; or, if nothing uses the port, off networking.firewall.${allowed}, ${opens}.";
      }
      {
        assertion = range == [ ];
        message = "${decoy}, which lies in a range that networking.firewall.${ranges} opens for something else. ${remove}, or choose a narrower range.";
      }
      {
        assertion = interfaces == [ ];
        message = "${decoy}, which networking.firewall.interfaces opens for something else on ${lib.concatStringsSep " and " interfaces}. ${remove}.";
      }
      {
        assertion = users == [ ];
        message = "${decoy}, which ${
          lib.concatMapStringsSep " and " (service: service.name) users
        } uses, and could not while it is a decoy. ${remove}.";
      }
      {
        assertion = units == [ ];
        message = "${decoy}, on which ${
          lib.concatMapStringsSep ", " (socket: "${socket.name}.socket") units
        } listens. ${remove}.";
      }
    ];

  decoys = lib.length (lib.unique cfg.tcpPorts) + lib.length (lib.unique cfg.udpPorts);
  # As how many they count: ports of one family are one contact, and so is a port over TCP and UDP.
  contact = import ./families.nix (
    if cfg.ports == null then builtins.readFile ../units/etc/ports else cfg.ports
  );
  contacts = lib.length (
    lib.unique (map (contact "tcp") cfg.tcpPorts ++ map (contact "udp") cfg.udpPorts)
  );
  has =
    "services.psentry has ${toString decoys} decoy${lib.optionalString (decoys != 1) "s"}"
    + lib.optionalString (
      contacts != decoys
    ) ", which count as ${toString contacts}, since ports of one family of /etc/psentry/ports are one contact,";
  # How many of them must be touched before the judge convicts, as far as its policy says so by a number.
  inherit (cfg.policy.test) trigger;
  needed = if trigger == null then 2 else trigger;
  # Both of these can make one touch enough.
  weighed = cfg.policy ? rule || cfg.policy ? evidence;

  mirage = cfg.trap.mirage != false;
  xtables = lib.filter (backend: backend == "iptables" || backend == "ipset") cfg.block.backends;
in
{
  config.assertions = lib.mkIf cfg.enable (
    lib.concatMap (sound {
      protocol = "tcp";
      list = "tcpPorts";
      allowed = "allowedTCPPorts";
      ranges = "allowedTCPPortRanges";
      sockets = listening "listenStreams" "ListenStream";
      ssh = lib.optionals config.services.openssh.enable config.services.openssh.ports;
    }) (lib.unique cfg.tcpPorts)
    ++ lib.concatMap (sound {
      protocol = "udp";
      list = "udpPorts";
      allowed = "allowedUDPPorts";
      ranges = "allowedUDPPortRanges";
      sockets = listening "listenDatagrams" "ListenDatagram";
      ssh = [ ];
    }) (lib.unique cfg.udpPorts)
    ++ [
      {
        assertion = decoys > 0 || cfg.trap.enable;
        message = "services.psentry has neither a decoy port nor its trap, and without one of them nobody is ever noticed. Put ports that nothing uses into services.psentry.tcpPorts or services.psentry.udpPorts, or set services.psentry.trap.enable = true.";
      }
      {
        assertion = cfg.selftest.enable -> decoys > 0;
        message = "services.psentry.selftest touches decoys, and there is none. Name one in services.psentry.tcpPorts, or set services.psentry.selftest.enable = false.";
      }
      {
        assertion = mirage -> cfg.trap.enable;
        message = "services.psentry.trap.mirage is what the trap sends strangers to, and services.psentry.trap.enable is false. Set both or neither.";
      }
      {
        assertion =
          mirage && cfg.openFirewall && config.networking.firewall.enable
          -> config.networking.nftables.enable;
        message = "services.psentry.trap.mirage would be hidden by a firewall that psentry can open to it only in nftables. Set networking.nftables.enable = true; or set services.psentry.openFirewall = false, and let in yourself what `-m socket --nowildcard --transparent` matches.";
      }
      {
        assertion = (cfg.policy.block.observe or cfg.observe) == cfg.observe;
        message = "services.psentry.policy.block.observe and services.psentry.observe contradict each other. Leave the first away: the second says for the judge and the trap alike whether anybody is shut out.";
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

  config.warnings = lib.mkIf cfg.enable (
    lib.optionals (contacts < needed && !weighed) (
      lib.optional (!cfg.trap.enable)
        "${has} and no trap, and its policy convicts at ${toString needed} different ports: nobody can ever be convicted. Name more decoys, set services.psentry.trap.enable = true, or set services.psentry.policy.test.trigger to ${toString contacts}."
      ++ lib.optional (cfg.trap.enable && cfg.selftest.enable)
        "${has} and its policy convicts at ${toString needed} different ones: services.psentry.selftest, which touches nothing else, would always fail. Name a decoy of another family, or set services.psentry.selftest.enable = false."
    )
  );
}
