# nix-instantiate --eval --strict --json tests/nix/eval.nix --argstr prefix DIR
#   --arg configuration FILE   what a machine with nix/module.nix and this configuration has, or why it is refused
#   --arg test FILE            the nodes of a NixOS test in the same form, and its script
#   --argstr nixpkgsLib DIR    nixpkgs' `lib` instead of the stand-in
# DIR is where psentry and the files that NixOS would have in its store are taken to be.
{
  configuration ? null,
  test ? null,
  prefix,
  nixpkgsLib ? "",
}:
let
  lib = import (if nixpkgsLib == "" then ./lib.nix else nixpkgsLib);
  pkgs = import ./pkgs.nix { inherit lib prefix; };
  # systemd's own escapes, in the form that NixOS gives them.
  utils.escapeSystemdExecArgs = lib.concatMapStringsSep " " (
    word: builtins.replaceStrings [ "%" "$" ] [ "%%" "$$" ] (builtins.toJSON (toString word))
  );
  machine =
    modules:
    (lib.evalModules {
      specialArgs = { inherit pkgs utils; };
      modules = [ ./nixos.nix ] ++ modules;
    }).config.result;
  tested = import test { };
in
if test == null then
  machine [
    ../../nix/module.nix
    configuration
  ]
else
  {
    inherit (tested) name testScript;
    nodes = builtins.mapAttrs (_: node: machine [ node ]) tested.nodes;
  }
