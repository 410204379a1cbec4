{
  services.psentry = {
    enable = true;
    block.backends = [ "exec" ];
    block.exec = "/nonexistent/ban {scope}";
  };
}
