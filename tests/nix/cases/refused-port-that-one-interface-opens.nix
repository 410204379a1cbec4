{
  services.psentry = {
    enable = true;
    tcpPorts = [ 5900 ];
  };
  networking.firewall.interfaces.lan.allowedTCPPorts = [ 5900 ];
}
