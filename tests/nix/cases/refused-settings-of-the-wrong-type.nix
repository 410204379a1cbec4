{
  services.psentry = {
    enable = true;
    openFirewall = true;
    settings.test.trigger = "two";
  };
}
