# One that the firewall opens, too: that is said once.
{
  services.psentry = {
    enable = true;
    openFirewall = true;
    tcpPorts = [ 23 ];
    udpPorts = [ 111 ];
  };
  services.rpcbind.enable = true;
  networking.firewall.allowedUDPPorts = [ 111 ];
}
