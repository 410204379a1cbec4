# No decoy, and so no listener and no self-test.
{
  services.psentry = {
    enable = true;
    openFirewall = true;
    tcpPorts = [ ];
    udpPorts = [ ];
  };
}
