{
  services.psentry = {
    enable = true;
    udpPorts = [ 161 ];
    openFirewall = false;
  };
  networking.firewall.allowedUDPPorts = [ 161 ];
}
