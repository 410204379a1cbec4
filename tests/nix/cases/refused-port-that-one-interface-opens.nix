{
  services.psentry = {
    enable = true;
    openFirewall = true;
    tcpPorts = [ 5900 ];
  };
  networking.firewall.interfaces.lan.allowedTCPPorts = [ 5900 ];
}
