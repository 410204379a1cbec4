# One that the firewall knows nothing of.
{
  services.psentry = {
    enable = true;
    tcpPorts = [
      23
      6379
    ];
  };
  services.redis.servers.cache = {
    enable = true;
    port = 6379;
  };
}
