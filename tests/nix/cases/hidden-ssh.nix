{
  services.openssh.enable = true;
  services.psentry = {
    enable = true;
    openFirewall = true;
    ignore = [ "198.51.100.0/24" ];
    trap.hide = [
      22
      "5432-5433"
    ];
  };
}
