{
  services.psentry = {
    enable = true;
    openFirewall = true;
    tcpPort = [ 23 ];
  };
}
