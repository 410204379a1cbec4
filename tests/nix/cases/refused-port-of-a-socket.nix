{
  services.psentry = {
    enable = true;
    openFirewall = true;
    tcpPorts = [ 631 ];
  };
  systemd.sockets.cups.listenStreams = [
    "/run/cups.sock"
    "[::]:631"
  ];
}
