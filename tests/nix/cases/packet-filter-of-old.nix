# The backends of iptables, where it is the firewall, with their programs.
{
  services.psentry = {
    enable = true;
    openFirewall = true;
    block.backends = [
      "ipset"
      "iptables"
    ];
  };
}
