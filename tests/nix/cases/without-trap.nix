# Decoys only.
{
  services.psentry = {
    enable = true;
    openFirewall = true;
    trap.enable = false;
  };
}
