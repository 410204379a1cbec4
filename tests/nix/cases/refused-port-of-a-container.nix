{
  services.psentry = {
    enable = true;
    tcpPorts = [ 2323 ];
  };
  virtualisation.oci-containers.containers.web.ports = [ "192.0.2.1:2320-2330:80-90/tcp" ];
}
