{
  services.psentry = {
    enable = true;
    openFirewall = true;
    block.exec = "/opt/ban {scope}";
  };
}
