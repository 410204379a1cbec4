# Beside the default list, too, it is an error what somebody wrote.
{ lib, ... }:
{
  services.psentry = {
    enable = true;
    tcpPorts = lib.mkOptionDefault [ 6380 ];
  };
  services.redis.servers.cache = {
    enable = true;
    port = 6380;
  };
}
