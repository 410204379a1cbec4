# As the description of openFirewall says.
{
  services.psentry = {
    enable = true;
    tcpPorts = [ 23 ];
    udpPorts = [ 161 ];
    openFirewall = false;
  };
  networking.firewall.interfaces.wan = {
    allowedTCPPorts = [ 23 ];
    allowedUDPPorts = [ 161 ];
  };
}
