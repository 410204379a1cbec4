# They are one contact, so that the selftest could convict nobody by them.
{
  services.psentry = {
    enable = true;
    openFirewall = true;
    tcpPorts = [
      139
      445
    ];
    udpPorts = [ 137 ];
  };
}
