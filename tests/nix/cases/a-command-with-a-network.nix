# A command that asks a router for each block.
{
  services.psentry = {
    enable = true;
    openFirewall = true;
    block = {
      backends = [ "exec" ];
      exec = "/bin/true {scope}";
      execNetwork = true;
    };
  };
}
