{
  services.psentry = {
    enable = true;
    openFirewall = true;
    trap.enable = false;
    trap.mirage = true;
  };
  networking.nftables.enable = true;
}
