{
  services.psentry = {
    enable = true;
    openFirewall = true;
    block.backends = [ "exec" ];
  };
}
