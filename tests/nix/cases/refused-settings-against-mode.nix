{
  services.psentry = {
    enable = true;
    mode = "observe";
    settings.block.observe = false;
  };
}
