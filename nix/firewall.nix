# The decoys in the firewall of NixOS, if that is wanted.
{
  config,
  lib,
  options,
  ...
}:
let
  cfg = config.services.psentry;
  decoys = import ./decoys.nix { inherit config lib options; };
in
{
  config.networking.firewall = lib.mkIf (cfg.enable && cfg.openFirewall) {
    allowedTCPPorts = decoys.each "tcp" (port: port);
    allowedUDPPorts = decoys.each "udp" (port: port);
    # What comes to any port and goes to the mirage still bears the port that it came to.
    extraInputRules = lib.mkIf (
      cfg.trap.mirage != false && config.networking.nftables.enable
    ) "meta l4proto { tcp, udp } socket transparent 1 socket mark 0x70730001 accept";
  };
}
