# Ports and sockets of others are no conflict as long as no decoy is among them, nor are decoys named twice.
{
  services.psentry = {
    enable = true;
    openFirewall = true;
    tcpPorts = [
      23
      23
      2222
    ];
    udpPorts = [ 161 ];
  };
  services.openssh.enable = true;
  services.rpcbind.enable = true;
  services.redis.servers.cache = {
    enable = true;
    port = 6379;
  };
  services.redis.servers.off.port = 23;
  networking.nftables.enable = true;
  networking.firewall = {
    allowedTCPPorts = [
      80
      443
    ];
    allowedUDPPorts = [ 23 ];
    allowedTCPPortRanges = [
      {
        from = 8000;
        to = 8100;
      }
    ];
  };
  systemd.sockets.web = {
    listenStreams = [
      "80"
      "[::1]:8022"
      "/run/web.sock"
    ];
    listenDatagrams = [ "2222" ];
  };
}
