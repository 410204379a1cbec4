{
  description = "psentry notices hosts that probe ports nobody has a reason to touch, and shuts them out";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forAll =
        f: lib.genAttrs systems (system: f (nixpkgs.legacyPackages.${system}.extend self.overlays.default));
    in
    {
      overlays.default = final: prev: {
        psentry = final.callPackage ./nix/package.nix {
          nixosTests = prev.nixosTests // {
            psentry = final.testers.runNixOSTest ./nix/test.nix;
          };
        };
      };

      packages = forAll (pkgs: {
        default = pkgs.psentry;
        inherit (pkgs) psentry;
      });

      nixosModules = {
        default = self.nixosModules.psentry;
        psentry =
          { lib, pkgs, ... }:
          {
            imports = [ ./nix/module.nix ];
            # From the packages of the machine, so that there is no second nixpkgs beside its own; and not by the overlay,
            # so that a configuration whose `pkgs` is given from outside can take it, too.
            services.psentry.package = lib.mkDefault (pkgs.callPackage ./nix/package.nix { });
          };
      };

      devShells = forAll (pkgs: {
        default = pkgs.mkShell {
          inputsFrom = [ pkgs.psentry ];
          # What tests/run asks for, besides Nix itself.
          packages = [
            pkgs.cargo
            pkgs.clippy
            pkgs.rustfmt
            pkgs.ipset
            pkgs.iproute2
            pkgs.iptables
            pkgs.iputils
            pkgs.jq
            pkgs.mandoc
            pkgs.netcat-openbsd
            pkgs.nftables
            pkgs.nixfmt
            pkgs.nmap
            pkgs.python3
            pkgs.shellcheck
            pkgs.socat
            pkgs.systemd
            pkgs.tcp_wrappers
            pkgs.tcpdump
            pkgs.traceroute
            pkgs.util-linux
          ];
        };
      });

      checks = forAll (pkgs: {
        package = pkgs.psentry;
        machines = pkgs.psentry.tests.psentry;
        format = pkgs.runCommand "psentry-format" { nativeBuildInputs = [ pkgs.nixfmt ]; } ''
          nixfmt --check ${./flake.nix} ${./nix}/*.nix ${./tests/nix}/*.nix ${./tests/nix/cases}/*.nix
          touch $out
        '';
        # A whole machine is evaluated, with its assertions; what it is made of is not built.
        module =
          let
            machine = lib.nixosSystem {
              inherit (pkgs.stdenv.hostPlatform) system;
              modules = [
                self.nixosModules.default
                {
                  boot.isContainer = true;
                  system.stateVersion = lib.trivial.release;
                  services.psentry.enable = true;
                  services.psentry.openFirewall = true;
                }
              ];
            };
          in
          pkgs.writeText "psentry-module" (
            builtins.unsafeDiscardStringContext machine.config.system.build.toplevel.drvPath
          );
      });

      formatter = forAll (pkgs: pkgs.nixfmt-tree);
    };
}
