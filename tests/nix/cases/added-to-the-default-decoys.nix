# A list of one's own beside the default one, of which a port that a service has is left out all the same.
{ lib, ... }:
{
  services.psentry = {
    enable = true;
    openFirewall = true;
    tcpPorts = lib.mkOptionDefault [
      2222
      (lib.mkIf false 4444)
    ];
  };
  services.rpcbind.enable = true;
}
