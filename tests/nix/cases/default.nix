# What the other cases are compared with: as it comes, and the decoys are reached.
{
  services.psentry = {
    enable = true;
    openFirewall = true;
  };
}
