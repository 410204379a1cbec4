# psentry on machines: `nix flake check` boots them as virtual machines, and tests/nix/driver.py as containers where
# there is no NixOS. Addresses are given here, and all are in one network, where psentry shuts out single addresses.
{ ... }:
let
  machine =
    number: extra:
    { lib, pkgs, ... }:
    {
      imports = [ extra ];
      networking.interfaces.eth1 = lib.mkForce {
        ipv4.addresses = [
          {
            address = "192.0.2.${toString number}";
            prefixLength = 24;
          }
        ];
        ipv6.addresses = [
          {
            address = "2001:db8:0:${toString number}::1";
            prefixLength = 48;
          }
        ];
      };
      environment.systemPackages = [ pkgs.nmap ];
    };
  guarded = psentry: {
    imports = [ ./module.nix ];
    services.openssh.enable = true;
    networking.nftables.enable = true;
    # The hardest case: a reload of the firewall takes psentry's table away, too.
    networking.nftables.flushRuleset = true;
    services.psentry = {
      enable = true;
      openFirewall = true;
    }
    // psentry;
  };
in
{
  name = "psentry";

  nodes = {
    guard = machine 1 (guarded {
      mode = "block";
      # So that nobody has to wait for its end for long.
      trap.quarantine = "5s";
    });
    # A machine whose firewall is iptables.
    elder = machine 3 (
      { pkgs, ... }:
      {
        imports = [ ./module.nix ];
        services.openssh.enable = true;
        environment.systemPackages = [
          pkgs.ipset
          pkgs.iptables
        ];
        services.psentry = {
          enable = true;
          openFirewall = true;
          mode = "block";
          block.backends = [
            "ipset"
            "iptables"
            "route"
          ];
        };
      }
    );
    # It observes, as the module does unless it is told to block.
    observer = machine 2 (guarded { });
    # To which every port is a decoy.
    mirage = machine 4 (guarded {
      trap.mirage = true;
    });
    scanner = machine 7 { };
    innocent = machine 8 { };
    # Touches no decoy.
    prober = machine 9 { };
  };

  testScript = builtins.readFile ./test.py;
}
