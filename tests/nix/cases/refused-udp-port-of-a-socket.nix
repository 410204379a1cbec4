{
  services.psentry = {
    enable = true;
    udpPorts = [ 69 ];
  };
  systemd.sockets.tftp.socketConfig.ListenDatagram = 69;
}
