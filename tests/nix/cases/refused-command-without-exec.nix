{
  services.psentry = {
    enable = true;
    block.exec = "/opt/ban {scope}";
  };
}
