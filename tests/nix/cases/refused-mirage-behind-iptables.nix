{
  services.psentry = {
    enable = true;
    trap.mirage = true;
  };
}
