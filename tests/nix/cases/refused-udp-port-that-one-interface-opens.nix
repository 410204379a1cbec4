{
  services.psentry = {
    enable = true;
    openFirewall = true;
    udpPorts = [ 1900 ];
  };
  networking.firewall.interfaces.lan.allowedUDPPortRanges = [
    {
      from = 1890;
      to = 1910;
    }
  ];
}
