{
  services.psentry = {
    enable = true;
    trap.enable = false;
    trap.mirage = true;
  };
  networking.nftables.enable = true;
}
