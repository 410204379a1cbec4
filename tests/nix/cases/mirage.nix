# Every port looks open, and the firewall lets strangers in to that.
{
  services.psentry = {
    enable = true;
    trap.mirage = true;
  };
  networking.nftables.enable = true;
}
