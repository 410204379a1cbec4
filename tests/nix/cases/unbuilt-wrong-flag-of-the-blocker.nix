{
  services.psentry = {
    enable = true;
    openFirewall = true;
    extraArgs.block = [ "--max-blocks=many" ];
  };
}
