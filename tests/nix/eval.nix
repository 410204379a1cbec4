# nix-instantiate --eval --strict --json tests/nix/eval.nix --argstr prefix DIR
#   --arg configuration FILE   what a machine with nix/module.nix and this configuration has, or why it is refused
#   --arg test FILE            the nodes of a NixOS test in the same form, and its script
#   --arg documented true      what the documentation of the options lacks, and what comes of each example there
#   --argstr nixpkgsLib DIR    nixpkgs' `lib` instead of the stand-in
# DIR is where psentry and the files that NixOS would have in its store are taken to be.
{
  configuration ? null,
  test ? null,
  documented ? false,
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
  evaluated =
    modules:
    lib.evalModules {
      specialArgs = { inherit pkgs utils; };
      modules = [ ./nixos.nix ] ++ modules;
    };
  machine = modules: (evaluated modules).config.result;
  tested = import test { };

  # All options, each with its path below services.psentry, but for former names.
  options =
    let
      below =
        path: tree:
        if tree._type or "" == "option" then
          lib.optional (tree.visible or true) {
            inherit path;
            option = tree;
          }
        else
          lib.concatLists (lib.mapAttrsToList (name: below (path ++ [ name ])) tree);
    in
    below [ ] (evaluated [ ../../nix/module.nix ]).options.services.psentry;
  # An example that is an expression is read as a configuration would be.
  exampleOf =
    { example, ... }:
    if example._type or "" == "literalExpression" then
      scopedImport { inherit lib pkgs; } (builtins.toFile "example.nix" example.text)
    else
      example;
  valueOf =
    { path, option }:
    let
      set = lib.setAttrByPath (
        [
          "services"
          "psentry"
        ]
        ++ path
      ) (exampleOf option);
    in
    lib.attrByPath path null
      (evaluated [
        ../../nix/module.nix
        set
      ]).config.services.psentry;
  named = { path, ... }: lib.showOption path;
in
if documented then
  {
    options = map named options;
    withoutDescription = map named (lib.filter ({ option, ... }: !(option ? description)) options);
    withoutDefault = map named (
      lib.filter ({ option, ... }: !(option ? default || option ? defaultText)) options
    );
    # An expression that was evaluated too early, so that the manual would show a path of the store.
    exampleOfTheStore = map named (
      lib.filter (
        { option, ... }: lib.hasInfix "${pkgs.coreutils}/bin" (option.example.text or "")
      ) options
    );
    examples = builtins.listToAttrs (
      map (shown: lib.nameValuePair (named shown) (valueOf shown)) (
        lib.filter ({ option, ... }: option ? example) options
      )
    );
  }
else if test == null then
  machine [
    ../../nix/module.nix
    configuration
  ]
else
  {
    inherit (tested) name testScript;
    nodes = builtins.mapAttrs (_: node: machine [ node ]) tested.nodes;
  }
