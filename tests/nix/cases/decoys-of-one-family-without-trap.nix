# A family of this machine's own.
{
  services.psentry = {
    enable = true;
    openFirewall = true;
    tcpPorts = [
      8101
      8102
    ];
    udpPorts = [ ];
    trap.enable = false;
    ports = ''
      family ours tcp/8100-8109 # one program
    '';
  };
}
