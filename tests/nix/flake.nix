# What flake.nix and nix/package.nix come to, where nixpkgs is a stand-in that builds nothing:
# nix-instantiate --eval --strict --json tests/nix/flake.nix
#   --arg user FILE   what a flake that takes psentry's as its input makes of a machine
{
  user ? null,
}:
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
        config = {
          inherit (machine.config) result;
          system.build.toplevel.drvPath = toString (builtins.attrNames machine.config.result.units);
        };
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
    versionCheckHook = "versionCheckHook";
    nix-update-script = _: "nix-update-script";
    nixosTests = { };
    rustPlatform.buildRustPackage =
      f:
      let
        package = f package // {
          type = "derivation";
          outPath = "/nix/store/psentry";
          inherit (package.passthru) tests;
        };
      in
      package;
    testers.runNixOSTest = file: (import file { }).name;
    nixfmt = "nixfmt";
    mkShell = shell: shell.inputsFrom;
    writeText = name: text: if name == "psentry-module" then text else stub.writeText name text;
    nixfmt-tree = "nixfmt";
    extend = overlay: pkgs // overlay pkgs pkgs;
  };
  flake = import ../../flake.nix;
  nixpkgs = {
    inherit lib;
    legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (_: pkgs);
  };
  self = flake.outputs { inherit self nixpkgs; } // {
    inherit (flake) inputs;
  };
  package = self.packages.aarch64-linux.default;
  checks = self.checks.x86_64-linux;

  # What is said of the programs in two places.
  manifest = lib.importTOML ../../Cargo.toml;
  bins = map (bin: bin.name) manifest.bin;
in
if user != null then
  lib.mapAttrs (_: machine: machine.config.result)
    ((import user).outputs {
      inherit nixpkgs;
      psentry = self;
    }).nixosConfigurations
else
  {
    inputs = builtins.attrNames self.inputs;
    outputs = builtins.attrNames (removeAttrs self [ "inputs" ]);
    modules = builtins.attrNames self.nixosModules;
    systems = builtins.attrNames self.packages;
    checks = builtins.attrNames checks;
    machines = checks.machines;
    module = builtins.match ".*psentry-block.service.*" checks.module != null;
    inherit (package) pname src;
    inherit (package.meta) license mainProgram platforms;
    meta = builtins.attrNames package.meta;
    passthru = builtins.attrNames package.passthru;
    sameVersion = package.version == manifest.workspace.package.version;
    sameDescription = package.meta.description == manifest.package.description;
    # Programs that are built and get no completions.
    unnamed = lib.filter (bin: !(lib.elem bin package.passthru.programs)) bins;
    skipped = package.checkFlags;
    versionChecked =
      package.doInstallCheck && package.nativeInstallCheckInputs == [ "versionCheckHook" ];
  }
