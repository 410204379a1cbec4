# A decoy that one interface opens is seen there; the others are seen from the networks that are trusted.
{
  services.psentry = {
    enable = true;
    tcpPorts = [
      23
      2222
    ];
    udpPorts = [ 161 ];
  };
  networking.firewall = {
    interfaces.wan.allowedTCPPorts = [ 23 ];
    trustedInterfaces = [ "lan" ];
  };
}
