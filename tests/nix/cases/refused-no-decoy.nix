{
  services.psentry = {
    enable = true;
    tcpPorts = [ ];
    udpPorts = [ ];
    trap.enable = false;
  };
}
