{
  services.psentry = {
    enable = true;
    policy.trigger = "two";
  };
}
