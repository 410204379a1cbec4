{
  services.psentry = {
    enable = true;
    openFirewall = true;
    extraArgs.listen = [ "--banner=/nonexistent" ];
  };
}
