{
  services.psentry = {
    enable = true;
    openFirewall = true;
    settings.slow.port = 2;
  };
}
