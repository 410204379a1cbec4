{
  services.psentry = {
    enable = true;
    policy.slow.port = 2;
  };
}
