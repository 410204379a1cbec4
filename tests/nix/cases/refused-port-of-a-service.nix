# One that the firewall knows nothing of.
{
  services.psentry.enable = true;
  services.redis.servers.cache = {
    enable = true;
    port = 6379;
  };
}
