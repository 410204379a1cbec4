{
  services.psentry = {
    enable = true;
    extraFlags.listen = [ "--banner=/nonexistent" ];
  };
}
