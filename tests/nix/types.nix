# The option types of the stand-in for nixpkgs' `lib`; see lib.nix. A type is a name, a check of one value, and `merge`,
# which makes one value of all definitions that have the strongest priority.
lib:
let
  show = value: if builtins.isFunction value then "a function" else builtins.toJSON value;
  wrong =
    place: name: value:
    throw "A definition for option `${lib.showOption place}' is not of type `${name}': ${show value}";

  checked =
    { name, check, ... }:
    place: values:
    let
      bad = builtins.filter (value: !(check value)) values;
    in
    if bad == [ ] then values else wrong place name (builtins.head bad);

  # A type of which all definitions must be equal.
  mkType =
    name: check:
    let
      type = {
        inherit name check;
        merge =
          place: values:
          let
            sound = checked type place values;
          in
          if builtins.all (value: value == builtins.head sound) sound then
            builtins.head sound
          else
            throw "The option `${lib.showOption place}' has conflicting definition values: ${
              lib.concatMapStringsSep ", " show sound
            }";
      };
    in
    type;

  # A type that knows how to put its definitions together.
  joined =
    name: check: join:
    let
      type = {
        inherit name check;
        merge = place: values: join place (checked type place values);
      };
    in
    type;

  between =
    low: high:
    mkType "integer between ${toString low} and ${toString high} (both inclusive)" (
      value: builtins.isInt value && value >= low && value <= high
    );

  types = {
    anything = mkType "anything" (_: true);
    unspecified = types.anything;
    bool = mkType "boolean" builtins.isBool;
    float = mkType "floating point number" builtins.isFloat;
    int = mkType "signed integer" builtins.isInt;
    ints = {
      inherit between;
      positive = mkType "positive integer, meaning >0" (value: builtins.isInt value && value > 0);
    };
    port = between 0 65535;
    str = mkType "string" builtins.isString;
    strMatching =
      pattern:
      mkType "string matching the pattern ${pattern}" (
        value: builtins.isString value && builtins.match pattern value != null
      );
    lines = joined "strings concatenated with \"\\n\"" builtins.isString (
      _: builtins.concatStringsSep "\n"
    );
    package = mkType "package" (value: value.type or "" == "derivation");
    path = mkType "path" (value: builtins.substring 0 1 (toString value) == "/");
    enum =
      allowed:
      mkType "one of ${lib.concatMapStringsSep ", " builtins.toJSON allowed}" (
        value: builtins.elem value allowed
      );
    nullOr =
      type:
      joined "null or ${type.name}" (value: value == null || type.check value) (
        place: values: if builtins.all (value: value == null) values then null else type.merge place values
      );
    either =
      one: other:
      joined "${one.name} or ${other.name}" (value: one.check value || other.check value) (
        place: values: (if builtins.all one.check values then one else other).merge place values
      );
    oneOf = all: builtins.foldl' types.either (builtins.head all) (builtins.tail all);
    # An element may say by a condition whether it is there.
    listOf =
      type:
      joined "list of ${type.name}" builtins.isList (
        place: values:
        builtins.concatLists (
          lib.imap1 (
            n: value:
            let
              kept = lib.strongest (lib.discharge 100 value);
            in
            lib.optional (kept != [ ]) (type.merge (place ++ [ "[definition ${toString n}]" ]) kept)
          ) (builtins.concatLists values)
        )
      )
      // {
        emptyValue.value = [ ];
      };
    attrsOf =
      type:
      joined "attribute set of ${type.name}" builtins.isAttrs (
        place: values:
        let
          sets = builtins.concatMap lib.expose values;
          found = builtins.mapAttrs (
            name: _:
            lib.strongest (
              builtins.concatMap (set: if set ? ${name} then lib.discharge 100 set.${name} else [ ]) sets
            )
          ) (builtins.foldl' (all: set: all // set) { } sets);
        in
        builtins.mapAttrs (name: type.merge (place ++ [ name ])) (
          lib.filterAttrs (_: all: all != [ ]) found
        )
      )
      // {
        emptyValue.value = { };
      };
    submodule =
      module:
      joined "submodule" (value: builtins.isAttrs value || builtins.isFunction value) (
        place: values:
        (lib.evalModules {
          prefix = place;
          modules = [
            module
          ]
          ++ map (value: if builtins.isFunction value then value else { config = value; }) values;
        }).config
      );
  };
in
types
