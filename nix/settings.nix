# The option services.psentry.settings: the keys of psentry-policy(5), the few most used of them as options.
{
  lib,
  pkgs,
  time,
}:
let
  inherit (lib) literalExpression mkOption types;
  key =
    type: example: default: description:
    mkOption {
      type = types.nullOr type;
      default = null;
      inherit example;
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
    The policy of {command}`psentry-judge`, {file}`/etc/psentry/policy.toml`: when it convicts, and for how long. Any key
    of {manpage}`psentry-policy(5)` may stand here, whether or not it is listed as an option. A key that the program does
    not know, or a value that it does not take, fails the build. The one exception is `block.observe`, which
    {option}`services.psentry.mode` sets.
  '';
  type = types.submodule {
    freeformType = (pkgs.formats.toml { }).type;
    options = {
      test.trigger =
        key types.ints.positive 1 "a sequential test, by which two different decoys convict"
          ''
            How many different ports convict. `1` convicts at the first touch.
          '';
      test.window = key time "10m" "`15m`" "How long a touch counts.";
      block.duration = key time "1d" "`1h`" ''
        How long a first block lasts when completed handshakes prove the address.
      '';
      block.unproven = key time "30s" "`1m`" "How long a block lasts when the packets could be forged.";
      memory.sources = key types.ints.positive 20000 "`100000`" ''
        How many sources to remember; those whose packets could be forged are forgotten first.
      '';
    };
  };
}
