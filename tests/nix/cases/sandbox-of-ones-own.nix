# A directive of the sandbox is a default, and gives way without force: a command that blocks somewhere else.
{
  services.psentry.enable = true;
  services.psentry.openFirewall = true;
  systemd.services.psentry-block.serviceConfig = {
    IPAddressDeny = "";
    RestrictAddressFamilies = "AF_NETLINK AF_UNIX AF_INET AF_INET6";
  };
}
