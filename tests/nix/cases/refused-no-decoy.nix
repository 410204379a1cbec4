{
  services.psentry = {
    enable = true;
    openFirewall = true;
    tcpPorts = [ ];
    udpPorts = [ ];
    trap.enable = false;
  };
}
