{
  services.psentry = {
    enable = true;
    openFirewall = true;
    tcpPorts = [ 5900 ];
  };
  networking.firewall.allowedTCPPortRanges = [
    {
      from = 5900;
      to = 5910;
    }
  ];
}
