{
  services.psentry = {
    enable = true;
    extraFlags.block = [ "--max-blocks=many" ];
  };
}
