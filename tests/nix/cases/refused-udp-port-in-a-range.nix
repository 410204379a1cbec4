{
  services.psentry = {
    enable = true;
    openFirewall = true;
    udpPorts = [ 5060 ];
  };
  networking.firewall.allowedUDPPortRanges = [
    {
      from = 5000;
      to = 5060;
    }
  ];
}
