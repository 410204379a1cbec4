{
  services.psentry = {
    enable = true;
    openFirewall = true;
    trap.enable = false;
    trap.hide = [ 5432 ];
  };
}
