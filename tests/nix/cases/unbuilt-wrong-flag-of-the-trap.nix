{
  services.psentry = {
    enable = true;
    trap.quarantine = "2h";
  };
}
