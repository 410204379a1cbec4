# Two different ports convict, and there is one: that is a warning, since it is seen all the same.
{
  services.psentry = {
    enable = true;
    openFirewall = true;
    tcpPorts = [ 23 ];
    udpPorts = [ ];
    trap.enable = false;
  };
}
