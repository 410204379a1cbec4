# No warning.
{
  services.psentry = {
    enable = true;
    tcpPorts = [ 23 ];
    udpPorts = [ ];
    trap.enable = false;
    policy.test.trigger = 1;
  };
}
