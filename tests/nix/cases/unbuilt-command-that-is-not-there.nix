{
  services.psentry = {
    enable = true;
    openFirewall = true;
    block.backends = [ "exec" ];
    block.exec = "/nonexistent/ban {scope}";
  };
}
