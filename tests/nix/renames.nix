# Options under former names, in the stand-in for nixpkgs' `lib`; see lib.nix.
lib:
let
  of = path: set: builtins.foldl' (place: name: place.${name}) set path;
  hidden =
    path:
    lib.setAttrByPath path (
      lib.mkOption {
        type = lib.types.unspecified;
        visible = false;
      }
    );
  files = option: lib.concatMapStringsSep " and " (file: "`${file}'") option.files;
in
{
  # What is defined under the old name is a definition of the new one.
  mkRenamedOptionModule =
    from: to:
    { options, ... }:
    let
      old = of from options;
    in
    {
      options = hidden from;
      config = {
        warnings = lib.optional old.isDefined "The option `${lib.showOption from}' defined in ${files old} has been renamed to `${lib.showOption to}'.";
      }
      // lib.setAttrByPath to (lib.mkMerge (map (lib.mkOverride old.highestPrio) old.definitions));
    };

  # What is defined under the old name is said in another type.
  mkChangedOptionModule =
    from: to: convert:
    { config, options, ... }:
    let
      old = of from options;
    in
    {
      options = hidden from;
      config = {
        warnings = lib.optional old.isDefined "The option `${lib.showOption from}' defined in ${files old} has been changed to `${lib.showOption to}' that has a different type. Please read `${lib.showOption to}' documentation and update your configuration accordingly.";
      }
      // lib.setAttrByPath to (lib.mkIf old.isDefined (convert config));
    };
}
