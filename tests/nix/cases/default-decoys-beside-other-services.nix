# Ports that something else has leave the default lists, and nothing is said of it: those of services, whether or not the
# firewall opens them, of sockets, of containers, of sshd, and all that the firewall opens.
{ lib, ... }:
{
  services.psentry = {
    enable = true;
    openFirewall = true;
  };
  services.openssh = {
    enable = true;
    ports = [ 2323 ];
  };
  services.rpcbind.enable = true;
  services.samba.enable = true;
  services.memcached = {
    enable = true;
    port = 5555;
  };
  services.redis.servers.cache = {
    enable = true;
    port = 6379;
  };
  systemd.sockets.tftp.socketConfig.ListenDatagram = 69;
  systemd.sockets.finger.listenStreams = [ "[::]:79" ];
  systemd.sockets.off = {
    enable = false;
    listenStreams = [ "23" ];
  };
  virtualisation.oci-containers.containers.database.ports = [
    "127.0.0.1:27017:27017"
    "512-514:1512-1514"
    "161:161/udp"
    "8080"
  ];
  networking.firewall = {
    # One of them by a condition, and one by another, which does not hold.
    allowedTCPPorts = [
      1433
      (lib.mkIf true 1521)
      (lib.mkIf false 21)
    ];
    allowedUDPPortRanges = [
      {
        from = 5000;
        to = 5070;
      }
    ];
    interfaces.lan.allowedTCPPorts = [ 5900 ];
  };
}
