{
  services.psentry = {
    enable = true;
    block.backends = [ "pf" ];
  };
}
