# What one interface opens is no decoy either if psentry opens none.
{
  services.psentry.enable = true;
  networking.firewall.interfaces.lan.allowedTCPPorts = [ 5900 ];
}
