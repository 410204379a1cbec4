{
  services.psentry = {
    enable = true;
    policy.trigger = 2;
  };
}
