# Every port looks open, and the firewall lets strangers in to that.
{
  services.psentry = {
    enable = true;
    openFirewall = true;
    trap.mirage = true;
  };
  networking.nftables.enable = true;
}
