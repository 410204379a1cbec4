# What cannot work is refused, in sentences that say what to do.
{
  config,
  lib,
  options,
  ...
}:
let
  cfg = config.services.psentry;
  inherit (lib) concatStringsSep optionals;
  occupied = import ./occupied.nix { inherit config lib options; };
  inherit (import ./decoys.nix { inherit config lib options; }) isDefault;

  # What is wrong with a decoy that somebody wrote down: a list of assertions, of which one fails at most.
  sound =
    protocol: port:
    let
      list = "services.psentry.${protocol}Ports";
      decoy = "${list} names port ${toString port}";
      remove = "Take ${toString port} off ${list}";
      opens =
        if cfg.openFirewall then
          "since services.psentry.openFirewall opens the decoys"
        else
          "and set services.psentry.openFirewall = true, which opens the decoys";
      users = occupied.users protocol port;
      openers = occupied.openers protocol port;
      # Without openFirewall, that is how decoys are opened on some interfaces only.
      interfaces = optionals cfg.openFirewall openers.interfaces;
      firewall = openers.port ++ openers.range ++ interfaces;
    in
    [
      {
        assertion = users == [ ];
        message = "${decoy}, ${concatStringsSep ", and " users}. ${remove}.";
      }
      {
        assertion = users != [ ] || firewall == [ ];
        message =
          "${decoy}, which ${concatStringsSep " and " firewall} ${
            if lib.length firewall == 1 then "opens" else "open"
          } for something else. ${remove}"
          + lib.optionalString (
            firewall != [ ] && firewall == openers.port
          ) "; or, if nothing uses the port, off ${lib.head firewall}, ${opens}"
          + ".";
      }
    ];
  all = protocol: lib.unique cfg."${protocol}Ports";
  checked =
    protocol:
    lib.concatMap (sound protocol) (lib.filter (port: !isDefault protocol port) (all protocol));

  # The decoys that the firewall opens on no interface.
  inherit (config.networking) firewall;
  hidden =
    protocol: allowed: ranges:
    let
      opens =
        interface: port:
        lib.elem port interface.${allowed}
        || lib.any (range: range.from <= port && port <= range.to) interface.${ranges};
      open =
        port:
        lib.any (interface: opens interface port) ([ firewall ] ++ lib.attrValues firewall.interfaces);
    in
    map (port: "${protocol}/${toString port}") (lib.filter (port: !open port) (all protocol));
  closed = optionals firewall.enable (
    hidden "tcp" "allowedTCPPorts" "allowedTCPPortRanges"
    ++ hidden "udp" "allowedUDPPorts" "allowedUDPPortRanges"
  );
  trusted = lib.remove "lo" firewall.trustedInterfaces;
  hides =
    "services.psentry has "
    + (
      if lib.length closed == decoys then
        "its decoys"
      else
        "${toString (lib.length closed)} of its ${toString decoys} decoys (${concatStringsSep ", " closed})"
    )
    + " behind a closed firewall, where they see "
    + (
      if trusted == [ ] then
        "nobody"
      else
        "only who comes by ${concatStringsSep " or " trusted} (networking.firewall.trustedInterfaces)"
    )
    + ". Set services.psentry.openFirewall = true, which opens the decoys and nothing else"
    + lib.optionalString cfg.trap.enable (
      "; or leave the ports to psentry-trap, which sees packets before the firewall does: "
      + (
        if lib.length closed == decoys then
          "set services.psentry.tcpPorts = [ ] and services.psentry.udpPorts = [ ]"
        else
          "take them off services.psentry.tcpPorts and services.psentry.udpPorts"
      )
    )
    + ".";

  decoys = lib.length (lib.unique cfg.tcpPorts) + lib.length (lib.unique cfg.udpPorts);
  # As how many they count: ports of one family are one contact, and so is a port over TCP and UDP.
  families = import ./families.nix;
  contact = families.contact (if cfg.ports == null then families.compiled else cfg.ports);
  contacts = lib.length (
    lib.unique (map (contact "tcp") cfg.tcpPorts ++ map (contact "udp") cfg.udpPorts)
  );
  has =
    "services.psentry has ${toString decoys} decoy${lib.optionalString (decoys != 1) "s"}"
    +
      lib.optionalString (contacts != decoys)
        ", which count as ${toString contacts}, since ports of one family of /etc/psentry/ports are one contact,";
  # How many of them must be touched before the judge convicts, as far as its policy says so by a number.
  inherit (cfg.settings.test) trigger;
  needed = if trigger == null then 2 else trigger;
  # Both of these can make one touch enough.
  weighed = cfg.settings ? rule || cfg.settings ? evidence;

  # Whether a port is that one, or in that range.
  holds =
    port: range:
    let
      ends = map lib.toInt (lib.splitString "-" (toString range));
    in
    lib.head ends <= port && port <= lib.last ends;
  hiddenSsh = lib.optionals config.services.openssh.enable (
    lib.filter (port: lib.any (holds port) cfg.trap.hide) config.services.openssh.ports
  );

  observe = cfg.mode == "observe";
  mirage = cfg.trap.mirage != false;
  # By a rule of one's own: psentry's is there only with openFirewall.
  mirageIsOpen = lib.hasInfix "transparent" (firewall.extraInputRules + firewall.extraCommands);
  xtables = lib.filter (backend: backend == "iptables" || backend == "ipset") cfg.block.backends;
in
{
  config.assertions = lib.mkIf cfg.enable (
    checked "tcp"
    ++ checked "udp"
    ++ [
      {
        assertion = decoys > 0 || cfg.trap.enable;
        message = "services.psentry has neither a decoy port nor its trap, and without one of them nobody is ever noticed. Put ports that nothing uses into services.psentry.tcpPorts or services.psentry.udpPorts, or set services.psentry.trap.enable = true.";
      }
      {
        assertion = cfg.selftest.enable -> decoys > 0;
        message = "services.psentry.selftest touches decoys, but there is none. Name one in services.psentry.tcpPorts, or set services.psentry.selftest.enable = false.";
      }
      {
        assertion = mirage -> cfg.trap.enable;
        message = "services.psentry.trap.mirage needs the trap, which redirects packets to it, but services.psentry.trap.enable is false. Set both or neither.";
      }
      {
        assertion =
          mirage && cfg.openFirewall && config.networking.firewall.enable
          -> config.networking.nftables.enable;
        message = "services.psentry.trap.mirage would be hidden by a firewall that psentry can open to it only in nftables. Set networking.nftables.enable = true; or set services.psentry.openFirewall = false, and accept yourself what `-m socket --nowildcard --transparent` matches.";
      }
      {
        assertion = cfg.trap.hide != [ ] -> cfg.trap.enable;
        message = "services.psentry.trap.hide needs the trap, which hides the ports, but services.psentry.trap.enable is false. Set both or neither.";
      }
      {
        assertion = cfg.trap.enable && hiddenSsh != [ ] -> cfg.ignore != [ ];
        message = "services.psentry.trap.hide names port ${lib.concatMapStringsSep " and " toString hiddenSsh} of sshd, and nobody is allowed to see it: whoever has not logged in for a week is locked out. Put the address or the network that you log in from into services.psentry.ignore.";
      }
      {
        assertion = (cfg.settings.block.observe or observe) == observe;
        message = "services.psentry.settings.block.observe and services.psentry.mode contradict each other. Remove the first: the second sets for both the judge and the trap whether anybody is shut out.";
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
    lib.optional (closed != [ ]) hides
    ++
      lib.optional (mirage && firewall.enable && !cfg.openFirewall && !mirageIsOpen)
        "services.psentry.trap.mirage sees nobody behind a closed firewall. Set services.psentry.openFirewall = true, or let in yourself what `socket transparent 1` matches in nftables, or `-m socket --transparent` in iptables."
    ++ lib.optionals (contacts < needed && !weighed) (
      lib.optional (!cfg.trap.enable)
        "${has} and no trap, and its policy convicts at ${toString needed} different ports: nobody can ever be convicted. Name more decoys, set services.psentry.trap.enable = true, or set services.psentry.settings.test.trigger to ${toString contacts}."
      ++
        lib.optional (cfg.trap.enable && cfg.selftest.enable)
          "${has} and its policy convicts at ${toString needed} different ones: services.psentry.selftest, which touches nothing else, would always fail. Name a decoy of another family, or set services.psentry.selftest.enable = false."
    )
  );
}
