# No firewall hides the decoys, so there is no warning, and the self-test reaches them.
{
  services.psentry.enable = true;
  networking.firewall.enable = false;
}
