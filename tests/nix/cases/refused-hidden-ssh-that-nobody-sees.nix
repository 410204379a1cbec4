{
  services.openssh.enable = true;
  services.psentry = {
    enable = true;
    openFirewall = true;
    trap.hide = [ "20-30" ];
  };
}
