{
  services.psentry = {
    enable = true;
    openFirewall = true;
    tcpPorts = [
      23
      8080
    ];
  };
  networking.firewall.allowedTCPPorts = [
    80
    8080
  ];
}
