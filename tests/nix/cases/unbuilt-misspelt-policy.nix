{
  services.psentry = {
    enable = true;
    policy.triger = 2;
  };
}
