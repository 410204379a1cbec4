{
  services.psentry = {
    enable = true;
    policy.trigger = 100000;
  };
}
