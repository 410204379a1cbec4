{
  services.psentry = {
    enable = true;
    tcpPort = [ 23 ];
  };
}
