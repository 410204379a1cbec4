# A stand-in for `pkgs`: packages are names under a prefix and nothing is built. psentry is where the caller put it, and
# all else is what this machine has in /usr.
{ lib, prefix }:
let
  package = name: outPath: {
    type = "derivation";
    inherit name outPath;
  };
  platform = {
    system = "x86_64-linux";
    canExecute = _: true;
  };

  # TOML: a string of JSON is one of TOML, too, and so are its numbers.
  isTables = value: builtins.isList value && value != [ ] && builtins.all builtins.isAttrs value;
  inline =
    value:
    if builtins.isList value then
      "[${lib.concatMapStringsSep ", " inline value}]"
    else if builtins.isAttrs value then
      "{ ${
        builtins.concatStringsSep ", " (
          lib.mapAttrsToList (name: one: "${builtins.toJSON name} = ${inline one}") value
        )
      } }"
    else
      builtins.toJSON value;
  key = name: if builtins.match "[A-Za-z0-9_-]+" name != null then name else builtins.toJSON name;
  toml =
    place: set:
    let
      header = name: lib.concatMapStringsSep "." key (place ++ [ name ]);
      lines = lib.mapAttrsToList (
        name: value:
        lib.optionalString (!builtins.isAttrs value && !isTables value) "${key name} = ${inline value}\n"
      ) set;
      tables = lib.mapAttrsToList (
        name: value:
        if builtins.isAttrs value then
          "[${header name}]\n${toml (place ++ [ name ]) value}"
        else
          lib.optionalString (isTables value) (
            lib.concatMapStrings (one: "[[${header name}]]\n${toml (place ++ [ name ]) one}") value
          )
      ) set;
    in
    builtins.concatStringsSep "" (lines ++ tables);
in
lib.genAttrs [
  "bash"
  "coreutils"
  "gnugrep"
  "gnused"
  "iproute2"
  "ipset"
  "iptables"
  "nftables"
  "nmap"
  "systemd"
  "util-linux"
] (name: package name "/usr")
// {
  psentry = package "psentry" "${prefix}/psentry";
  runtimeShell = "/usr/bin/sh";
  # Files are not written here; whoever asks for the text writes them where they are named.
  writeText = name: text: package name "${prefix}/${name}" // { inherit text; };
  runCommand =
    name: _: script:
    package name "${prefix}/${name}" // { inherit script; };
  formats.toml =
    _:
    let
      type =
        lib.types.oneOf (
          with lib.types;
          [
            bool
            int
            float
            str
            (attrsOf type)
            (listOf type)
          ]
        )
        // {
          name = "TOML value";
          description = "TOML value";
        };
    in
    {
      inherit type;
      generate = name: set: package name "${prefix}/${name}" // { text = toml [ ] set; };
    };
  stdenv.buildPlatform = platform;
  stdenv.hostPlatform = platform;
}
