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
] (name: package name "/usr")
// {
  psentry = package "psentry" "${prefix}/psentry";
  # Files are not written here; whoever asks for the text writes them where they are named.
  writeText = name: text: package name "${prefix}/${name}" // { inherit text; };
  runCommand =
    name: _: script:
    package name "${prefix}/${name}" // { inherit script; };
  stdenv.buildPlatform = platform;
  stdenv.hostPlatform = platform;
}
