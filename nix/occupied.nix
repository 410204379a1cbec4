# Why a port can be no decoy: what else of this configuration has it. The lists of decoys that nobody wrote leave such ports
# out (options.nix); in a list that somebody wrote they are an error (assertions.nix).
{
  config,
  lib,
  options,
}:
let
  # What others than this module define of an option, which may not depend on what psentry makes of it.
  foreign =
    option:
    (lib.mergeDefinitions option.loc option.type (
      lib.filter (
        definition: !(lib.hasPrefix "${toString ./.}/" definition.file)
      ) option.definitionsWithLocations
    )).mergedValue;

  # An option that is gone from NixOS may be an error to look at.
  attempt =
    default: value:
    let
      found = builtins.tryEval value;
    in
    if found.success then found.value else default;
  enabled = service: attempt false (service.enable or false);

  sshd = {
    tcp = lib.optionals config.services.openssh.enable config.services.openssh.ports;
    udp = [ ];
  };

  known = lib.concatLists (
    lib.mapAttrsToList (
      name: ports:
      let
        service = lib.attrByPath (lib.splitString "." name) { } config;
      in
      lib.optional (enabled service) (
        { inherit name; } // lib.mapAttrs (_: ports: attempt [ ] (ports service)) ports
      )
    ) (import ./known-services.nix lib)
  );
  redis = lib.mapAttrsToList (name: server: {
    name = "services.redis.servers.${name}";
    tcp = lib.optional (enabled server) server.port;
  }) (config.services.redis.servers or { });
  services = known ++ redis;

  # "8080:80", "192.0.2.1:53:53/udp", "8000-8010:8000-8010": the ports of this machine that a container publishes.
  publishes =
    protocol: port: published:
    let
      found = builtins.match "(.*:)?([0-9]+)(-([0-9]+))?:[0-9-]+(/([a-z]+))?" published;
      at = lib.elemAt found;
      first = lib.toInt (at 1);
      last = if at 3 == null then first else lib.toInt (at 3);
      its = if at 5 == null then "tcp" else at 5;
    in
    found != null && its == protocol && first <= port && port <= last;
  containers = lib.mapAttrsToList (name: container: {
    inherit name;
    ports = container.ports or [ ];
  }) (config.virtualisation.oci-containers.containers or { });

  # The ports of the sockets that other units listen on: "22", "[::1]:631", "192.0.2.1:80", and no paths.
  portOf =
    stream:
    let
      found = builtins.match "(.*:)?([0-9]+)" (toString stream);
    in
    lib.optional (found != null) (lib.last found);
  sockets =
    let
      listening =
        kind: directive:
        lib.mapAttrsToList (name: socket: {
          inherit name;
          ports = lib.optionals socket.enable (
            lib.concatMap portOf (socket.${kind} ++ lib.toList (socket.socketConfig.${directive} or [ ]))
          );
        }) (foreign options.systemd.sockets);
    in
    {
      tcp = listening "listenStreams" "ListenStream";
      udp = listening "listenDatagrams" "ListenDatagram";
    };

  firewall = config.networking.firewall;
  within = port: lib.any (range: range.from <= port && port <= range.to);
  opened = {
    tcp = {
      ports = "allowedTCPPorts";
      ranges = "allowedTCPPortRanges";
      foreign = foreign options.networking.firewall.allowedTCPPorts;
    };
    udp = {
      ports = "allowedUDPPorts";
      ranges = "allowedUDPPortRanges";
      foreign = foreign options.networking.firewall.allowedUDPPorts;
    };
  };
in
{
  # What has a port of "tcp" or "udp": a list of clauses, each of which names the option that says so.
  users =
    protocol: port:
    lib.optional (lib.elem port
      sshd.${protocol}
    ) "where sshd listens (services.openssh.ports): whoever logs in would be taken for a scanner"
    ++ map (service: "which ${service.name} uses, and could not while it is a decoy") (
      lib.filter (service: lib.elem port (service.${protocol} or [ ])) services
    )
    ++ map (
      { name, ... }:
      "which virtualisation.oci-containers.containers.${name} publishes, and could not while it is a decoy"
    ) (lib.filter (container: lib.any (publishes protocol port) container.ports) containers)
    ++ map ({ name, ... }: "on which systemd.sockets.${name} listens") (
      lib.filter (socket: lib.elem (toString port) socket.ports) sockets.${protocol}
    );

  # Which options of the firewall open a port for something else: on all interfaces, by a range, and on single ones.
  openers =
    protocol: port:
    let
      inherit (opened.${protocol}) ports ranges;
    in
    {
      port = lib.optional (lib.elem port opened.${protocol}.foreign) "networking.firewall.${ports}";
      range = lib.optional (within port firewall.${ranges}) "networking.firewall.${ranges}";
      interfaces = lib.concatLists (
        lib.mapAttrsToList (
          name: interface:
          map (option: "networking.firewall.interfaces.${name}.${option}") (
            lib.optional (lib.elem port interface.${ports}) ports
            ++ lib.optional (within port interface.${ranges}) ranges
          )
        ) firewall.interfaces
      );
    };
}
