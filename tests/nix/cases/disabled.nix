# Nothing at all comes of a module that is only imported, whatever is set.
{
  services.psentry.tcpPorts = [ 22 ];
  services.openssh.enable = true;
}
