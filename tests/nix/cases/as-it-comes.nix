# The firewall hides the decoys until somebody opens them.
{
  services.psentry.enable = true;
}
