{
  services.psentry = {
    enable = true;
    observe = true;
    policy.block.observe = false;
  };
}
