# Decoys only.
{
  services.psentry = {
    enable = true;
    trap.enable = false;
  };
}
