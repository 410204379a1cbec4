# A stand-in for the part of nixpkgs' `lib` that nix/module.nix and nix/test.nix use, so that they can be evaluated where
# nixpkgs is not to be had. It is written after the manual's words about modules, and is no copy and no replacement: what
# it does not know is an error, `apply` and documentation aside. With NIXPKGS_LIB the tests use the real one instead.
let
  types = import ./types.nix lib;

  # Definitions carry a priority; the smallest number wins.
  mkOverride = priority: content: {
    _type = "override";
    inherit priority content;
  };
  mkIf = condition: content: {
    _type = "if";
    inherit condition content;
  };
  mkMerge = contents: {
    _type = "merge";
    inherit contents;
  };
  isType = type: value: builtins.isAttrs value && value._type or "" == type;

  # What a definition comes to: a list of { priority, value }, empty if a condition says so.
  discharge =
    priority: value:
    if isType "merge" value then
      builtins.concatMap (discharge priority) value.contents
    else if isType "if" value then
      if value.condition then discharge priority value.content else [ ]
    else if isType "override" value then
      discharge value.priority value.content
    else
      [ { inherit priority value; } ];

  strongest =
    definitions:
    let
      best = builtins.foldl' (
        least: d: if d.priority < least then d.priority else least
      ) 9999 definitions;
    in
    map (d: d.value) (builtins.filter (d: d.priority == best) definitions);

  # The sets that a definition consists of, with conditions and priorities moved onto their members: only the names
  # are looked at, for a condition may depend on the very configuration that is being put together.
  expose =
    value:
    if isType "merge" value then
      builtins.concatMap expose value.contents
    else if isType "if" value then
      map (builtins.mapAttrs (_: mkIf value.condition)) (expose value.content)
    else if isType "override" value then
      map (builtins.mapAttrs (_: mkOverride value.priority)) (expose value.content)
    else
      [ value ];

  # What stands at a name in sets, each with the file that it is from.
  at =
    name: sets:
    builtins.concatMap (
      { file, value }:
      if value ? ${name} then
        [
          {
            inherit file;
            value = value.${name};
          }
        ]
      else
        [ ]
    ) sets;
  exposed = builtins.concatMap ({ file, value }: map (value: { inherit file value; }) (expose value));

  # All definitions of an option, with what comes of them.
  mergeDefinitions =
    place: type: given:
    let
      all = builtins.concatMap (
        { file, value }: map (definition: definition // { inherit file; }) (discharge 100 value)
      ) given;
      highestPrio = builtins.foldl' (least: d: if d.priority < least then d.priority else least) 9999 all;
      kept = builtins.filter (d: d.priority == highestPrio) all;
    in
    {
      inherit highestPrio;
      isDefined = kept != [ ];
      definitionsWithLocations = map (d: { inherit (d) file value; }) kept;
      mergedValue =
        if kept != [ ] then
          type.merge place (map (d: d.value) kept)
        else
          (type.emptyValue or (throw "The option `${lib.showOption place}' is used but not defined.")).value;
    };

  # Declared options of all modules in one tree.
  declared =
    place: one: other:
    one
    // builtins.mapAttrs (
      name: new:
      if !(one ? ${name}) then
        new
      else if isType "option" new || isType "option" one.${name} then
        throw "The option `${lib.showOption (place ++ [ name ])}' is declared twice."
      else
        declared (place ++ [ name ]) one.${name} new
    ) other;

  # The tree of options with what came of each.
  evaluate =
    place: tree: sets:
    builtins.mapAttrs (
      name: declaration:
      let
        here = place ++ [ name ];
        given = at name sets;
        default = {
          file = "the declaration";
          value = lib.mkOptionDefault declaration.default;
        };
        merged = mergeDefinitions here declaration.type (
          given ++ lib.optional (declaration ? default) default
        );
      in
      if isType "option" declaration then
        declaration
        // {
          loc = here;
          inherit (merged) highestPrio isDefined definitionsWithLocations;
          value = (declaration.apply or (x: x)) merged.mergedValue;
          definitions = map (d: d.value) merged.definitionsWithLocations;
          files = map (d: d.file) merged.definitionsWithLocations;
        }
      else
        evaluate here declaration (exposed given)
    ) tree;

  results = builtins.mapAttrs (
    _: option: if isType "option" option then option.value else results option
  );

  # What is defined and not declared: a list of places.
  strays =
    place: tree: sets:
    builtins.concatMap (
      name:
      let
        here = place ++ [ name ];
        given = at name sets;
      in
      if !(tree ? ${name}) then
        if builtins.concatMap (d: discharge 100 d.value) given == [ ] then [ ] else [ here ]
      else if isType "option" tree.${name} then
        [ ]
      else
        strays here tree.${name} (exposed given)
    ) (builtins.attrNames (builtins.foldl' (all: set: all // set.value) { } sets));

  # What is left of a definition without what is declared, for a type that takes all the rest.
  undeclared =
    tree: set:
    builtins.mapAttrs (
      name: value:
      if tree ? ${name} then mkMerge (map (undeclared tree.${name}) (expose value)) else value
    ) (lib.filterAttrs (name: _: !(isType "option" (tree.${name} or null))) set);

  evalModules =
    {
      modules,
      specialArgs ? { },
      prefix ? [ ],
    }:
    let
      arguments = specialArgs // {
        inherit lib options config;
      };
      # A module that is no file is said to be in the one that imports it.
      load =
        from: module:
        let
          isFile = builtins.isPath module || builtins.isString module;
          file = if isFile then toString module else from;
          read = if isFile then import module else module;
          body = if builtins.isFunction read then read arguments else read;
          whole = body ? options || body ? config || body ? freeformType;
          settings = if whole then body.config or { } else removeAttrs body [ "imports" ];
        in
        builtins.concatMap (load file) (body.imports or [ ])
        ++ [
          {
            settings = {
              inherit file;
              value = settings;
            };
            options = body.options or { };
            freeform = body.freeformType or null;
          }
        ];
      loaded = builtins.concatMap (load "<unknown-file>") modules;
      tree = builtins.foldl' (declared prefix) { } (map (module: module.options) loaded);
      sets = exposed (map (module: module.settings) loaded);
      freeforms = builtins.filter (type: type != null) (map (module: module.freeform) loaded);
      options = evaluate prefix tree sets;
      free =
        if freeforms == [ ] then
          { }
        else
          (builtins.head freeforms).merge prefix (map (set: undeclared tree set.value) sets);
      config = lib.recursiveUpdate free (results options);
      stray = if freeforms == [ ] then strays prefix tree sets else [ ];
    in
    {
      inherit options;
      config =
        if stray == [ ] then
          config
        else
          throw "The option `${lib.showOption (builtins.head stray)}' does not exist.";
    };

  lib =
    import ./functions.nix
    // import ./renames.nix lib
    // {
      inherit
        types
        discharge
        strongest
        expose
        evalModules
        mergeDefinitions
        mkIf
        mkMerge
        mkOverride
        ;
      mkDefault = mkOverride 1000;
      mkForce = mkOverride 50;
      mkOptionDefault = mkOverride 1500;
      mkOption = option: option // { _type = "option"; };
      mkEnableOption =
        what:
        lib.mkOption {
          type = types.bool;
          default = false;
          description = "Whether to enable ${what}.";
        };
      mkPackageOption =
        pkgs: name: _:
        lib.mkOption {
          type = types.package;
          default = pkgs.${name};
          description = "The ${name} package to use.";
        };
    };
in
lib
