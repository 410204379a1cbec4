# A rule of one's own lets strangers in to the mirage, and there are no decoys besides: no warning.
{
  services.psentry = {
    enable = true;
    tcpPorts = [ ];
    udpPorts = [ ];
    trap.mirage = true;
  };
  networking.nftables.enable = true;
  networking.firewall.extraInputRules = "socket transparent 1 accept";
}
