{
  services.psentry = {
    enable = true;
    tcpPorts = [ ];
    udpPorts = [ ];
    selftest.enable = true;
  };
}
