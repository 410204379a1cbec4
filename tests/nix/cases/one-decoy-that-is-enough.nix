# No warning.
{
  services.psentry = {
    enable = true;
    openFirewall = true;
    tcpPorts = [ 23 ];
    udpPorts = [ ];
    trap.enable = false;
    settings.test.trigger = 1;
  };
}
