{
  services.psentry = {
    enable = true;
    openFirewall = true;
    trap.quarantine = "2h";
  };
}
