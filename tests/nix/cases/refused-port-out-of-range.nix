{
  services.psentry = {
    enable = true;
    openFirewall = true;
    tcpPorts = [ 0 ];
  };
}
