# Probes and verdicts in the log, and nothing that acts on them.
{
  services.psentry = {
    enable = true;
    block.enable = false;
  };
}
