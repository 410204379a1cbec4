{
  services.psentry = {
    enable = true;
    tcpPorts = [ ];
    udpPorts = [ ];
  };
}
