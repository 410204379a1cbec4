{
  services.psentry = {
    enable = true;
    openFirewall = true;
    trap.mirage = true;
  };
}
