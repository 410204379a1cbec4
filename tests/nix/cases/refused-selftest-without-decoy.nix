{
  services.psentry = {
    enable = true;
    openFirewall = true;
    tcpPorts = [ ];
    udpPorts = [ ];
    selftest.enable = true;
  };
}
