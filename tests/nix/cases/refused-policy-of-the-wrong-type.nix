{
  services.psentry = {
    enable = true;
    policy.test.trigger = "two";
  };
}
