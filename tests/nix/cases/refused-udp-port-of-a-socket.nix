{
  services.psentry = {
    enable = true;
    openFirewall = true;
    udpPorts = [ 69 ];
  };
  systemd.sockets.tftp.socketConfig.ListenDatagram = 69;
}
