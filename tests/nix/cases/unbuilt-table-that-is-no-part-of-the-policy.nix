{
  services.psentry = {
    enable = true;
    openFirewall = true;
    settings.trigger = 2;
  };
}
