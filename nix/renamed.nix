# Options under their former names, so that a configuration that has them still evaluates, with a warning.
{ lib, ... }:
let
  name =
    path:
    [
      "services"
      "psentry"
    ]
    ++ path;
  renamed = from: to: lib.mkRenamedOptionModule (name from) (name to);
  stages = [
    "listen"
    "judge"
    "trap"
    "block"
  ];
in
{
  imports = [
    (renamed [ "policy" ] [ "settings" ])
    (lib.mkChangedOptionModule (name [ "observe" ]) (name [ "mode" ]) (
      config: if config.services.psentry.observe then "observe" else "block"
    ))
  ]
  ++ map (stage: renamed [ "extraFlags" stage ] [ "extraArgs" stage ]) stages;
}
