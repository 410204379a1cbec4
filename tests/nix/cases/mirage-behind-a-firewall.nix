# Two warnings: neither the decoys nor the mirage are reached.
{
  services.psentry = {
    enable = true;
    trap.mirage = true;
  };
  networking.nftables.enable = true;
}
