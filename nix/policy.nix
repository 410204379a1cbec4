# The option services.psentry.policy: the keys of psentry-policy(5), the few most used of them as options.
{
  lib,
  pkgs,
  time,
}:
let
  inherit (lib) literalExpression mkOption types;
  policyOption =
    type: default: description:
    mkOption {
      type = types.nullOr type;
      default = null;
      description = "${description} With `null` it is the program's default: ${default}.";
    };
in
mkOption {
  default = { };
  example = literalExpression ''
    {
      test.trigger = 1;
      block.duration = "1d";
      rule = [
        {
          name = "telnet";
          ports = [ 23 2323 ];
          convict = true;
        }
      ];
    }
  '';
  description = ''
    By what {command}`psentry-judge` decides: the keys of {manpage}`psentry-policy(5)`, whether or not they are
    options here. One that the program does not know, or a value that it does not take, fails the build. Whether it
    only observes is not said here but by {option}`services.psentry.observe`.
  '';
  type = types.submodule {
    freeformType = (pkgs.formats.toml { }).type;
    options = {
      test.trigger = policyOption types.ints.positive "a sequential test, by which two different decoys convict" ''
        How many different ports convict. `1` convicts at the first touch.
      '';
      test.window = policyOption time "`15m`" "How long a touch counts.";
      block.duration = policyOption time "`1h`" ''
        How long a first block lasts when completed handshakes prove the address.
      '';
      block.unproven = policyOption time "`1m`" "How long a block lasts when the packets could be forged.";
      memory.sources = policyOption types.ints.positive "`100000`" ''
        How many sources to remember; those whose packets could be forged are forgotten first.
      '';
    };
  };
}
