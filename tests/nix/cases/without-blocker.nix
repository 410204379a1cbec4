# Probes and verdicts in the log, and nothing that carries them out.
{
  services.psentry = {
    enable = true;
    openFirewall = true;
    block.enable = false;
  };
}
