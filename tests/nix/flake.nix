# What flake.nix and nix/package.nix come to, where nixpkgs is a stand-in that builds nothing:
# nix-instantiate --eval --strict --json tests/nix/flake.nix
let
  lib = import ./lib.nix // {
    importTOML = file: builtins.fromTOML (builtins.readFile file);
    fileset.unions = map (
      file: if builtins.pathExists file then file else throw "${toString file} is missing."
    );
    fileset.toSource = { fileset, ... }: map baseNameOf fileset;
    licenses.mit = "MIT";
    platforms.linux = [ "linux" ];
    trivial.release = "0";
    # As much of a machine as nixos.nix knows, and the two options that the check of the flake sets besides.
    nixosSystem =
      { modules, ... }:
      let
        machine = lib.evalModules {
          specialArgs = {
            inherit utils;
            pkgs = pkgs // {
              stdenv = pkgs.stdenv // {
                hostPlatform.system = "x86_64-linux";
              };
            };
          };
          modules = [
            ./nixos.nix
            {
              options.boot.isContainer = lib.mkOption { type = lib.types.bool; };
              options.system.stateVersion = lib.mkOption { type = lib.types.str; };
            }
          ]
          ++ modules;
        };
      in
      {
        config.system.build.toplevel.drvPath = toString (builtins.attrNames machine.config.result.units);
      };
  };
  utils.escapeSystemdExecArgs = toString;
  stub = import ./pkgs.nix {
    inherit lib;
    prefix = "/nix/store";
  };
  pkgs = stub // rec {
    callPackage =
      file: arguments:
      let
        f = import file;
      in
      f (builtins.intersectAttrs (builtins.functionArgs f) (pkgs // { inherit lib; }) // arguments);
    installShellFiles = "installShellFiles";
    rustPlatform.buildRustPackage =
      package:
      package
      // {
        type = "derivation";
        outPath = "/nix/store/psentry";
      };
    testers.runNixOSTest = file: (import file { }).name;
    mkShell = shell: shell.inputsFrom;
    writeText = name: text: if name == "psentry-module" then text else stub.writeText name text;
    nixfmt-tree = "nixfmt";
    extend = overlay: pkgs // overlay pkgs pkgs;
  };
  flake = import ../../flake.nix;
  self = flake.outputs {
    inherit self;
    nixpkgs = {
      inherit lib;
      legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (_: pkgs);
    };
  };
  package = self.packages.aarch64-linux.default;
  checks = self.checks.x86_64-linux;
in
{
  outputs = builtins.attrNames self;
  systems = builtins.attrNames self.packages;
  checks = builtins.attrNames checks;
  machines = checks.machines;
  module = builtins.match ".*psentry-block.service.*" checks.module != null;
  inherit (package) pname version src;
  inherit (package.meta) license;
  program = "bin/${package.meta.mainProgram}";
}
