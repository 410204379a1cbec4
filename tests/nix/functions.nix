# The small functions of the stand-in for nixpkgs' `lib`; see lib.nix.
let
  inherit (builtins) concatStringsSep;
  letters = text: builtins.filter (one: builtins.isString one && one != "") (builtins.split "" text);
  escapeRegex =
    builtins.replaceStrings
      [
        "."
        "["
        "("
        "*"
        "+"
        "?"
        "|"
        "^"
        "$"
      ]
      [
        "\\."
        "\\["
        "\\("
        "\\*"
        "\\+"
        "\\?"
        "\\|"
        "\\^"
        "\\$"
      ];
  functions = {
    inherit (builtins)
      all
      any
      attrNames
      attrValues
      concatLists
      concatMap
      concatStringsSep
      elem
      elemAt
      filter
      genList
      head
      isAttrs
      isList
      isString
      length
      listToAttrs
      mapAttrs
      match
      toJSON
      ;
    attrByPath =
      path: default: set:
      builtins.foldl' (
        place: name: if builtins.isAttrs place && place ? ${name} then place.${name} else default
      ) set path;
    boolToString = value: if value then "true" else "false";
    concatMapStrings = f: list: concatStringsSep "" (map f list);
    concatMapStringsSep =
      separator: f: list:
      concatStringsSep separator (map f list);
    count = f: list: builtins.length (builtins.filter f list);
    escapeShellArg = word: "'" + builtins.replaceStrings [ "'" ] [ "'\\''" ] (toString word) + "'";
    escapeShellArgs = functions.concatMapStringsSep " " functions.escapeShellArg;
    filterAttrs =
      f: set: removeAttrs set (builtins.filter (name: !(f name set.${name})) (builtins.attrNames set));
    filterAttrsRecursive =
      f: set:
      builtins.mapAttrs (
        _: value: if builtins.isAttrs value then functions.filterAttrsRecursive f value else value
      ) (functions.filterAttrs f set);
    genAttrs =
      names: f:
      builtins.listToAttrs (
        map (name: {
          inherit name;
          value = f name;
        }) names
      );
    getExe' = package: program: "${package}/bin/${program}";
    hasInfix = part: text: builtins.length (builtins.split (escapeRegex part) text) > 1;
    hasPrefix = start: text: builtins.substring 0 (builtins.stringLength start) text == start;
    removePrefix =
      start: text:
      let
        count = builtins.stringLength start;
      in
      if functions.hasPrefix start text then builtins.substring count (-1) text else text;
    imap1 = f: list: builtins.genList (n: f (n + 1) (builtins.elemAt list n)) (builtins.length list);
    literalMD = functions.literalExpression;
    literalExpression = text: {
      _type = "literalExpression";
      inherit text;
    };
    last = list: builtins.elemAt list (builtins.length list - 1);
    makeBinPath = functions.concatMapStringsSep ":" (package: "${package}/bin");
    mapAttrsToList = f: set: map (name: f name set.${name}) (builtins.attrNames set);
    mapAttrs' = f: set: builtins.listToAttrs (functions.mapAttrsToList f set);
    nameValuePair = name: value: { inherit name value; };
    remove = gone: builtins.filter (value: value != gone);
    setAttrByPath =
      path: value:
      if path == [ ] then
        value
      else
        { ${builtins.head path} = functions.setAttrByPath (builtins.tail path) value; };
    splitString =
      separator: text: builtins.filter builtins.isString (builtins.split (escapeRegex separator) text);
    toInt = builtins.fromJSON;
    toUpper = builtins.replaceStrings (letters "abcdefghijklmnopqrstuvwxyz") (
      letters "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    );
    optional = condition: value: if condition then [ value ] else [ ];
    optionals = condition: list: if condition then list else [ ];
    optionalAttrs = condition: set: if condition then set else { };
    optionalString = condition: text: if condition then text else "";
    recursiveUpdate =
      one: other:
      one
      // builtins.mapAttrs (
        name: new:
        if builtins.isAttrs new && builtins.isAttrs (one.${name} or null) then
          functions.recursiveUpdate one.${name} new
        else
          new
      ) other;
    showOption = concatStringsSep ".";
    toList = value: if builtins.isList value then value else [ value ];
    unique = builtins.foldl' (
      seen: value: if builtins.elem value seen then seen else seen ++ [ value ]
    ) [ ];
  };
in
functions
