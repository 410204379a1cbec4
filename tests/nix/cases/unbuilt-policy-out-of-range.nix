{
  services.psentry = {
    enable = true;
    policy.test.trigger = 100000;
  };
}
