# Another port than 22, too.
{
  services.psentry = {
    enable = true;
    openFirewall = true;
    tcpPorts = [
      23
      2222
    ];
  };
  services.openssh = {
    enable = true;
    ports = [ 2222 ];
  };
}
