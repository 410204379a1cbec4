{
  services.psentry = {
    enable = true;
    openFirewall = true;
    settings.test.trigger = 100000;
  };
}
