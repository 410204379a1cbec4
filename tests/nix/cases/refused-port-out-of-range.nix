{
  services.psentry = {
    enable = true;
    tcpPorts = [ 0 ];
  };
}
