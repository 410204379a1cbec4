# What a machine has after a switch, as text: its units, as NixOS writes them, and the files around them.
{ config, lib, ... }:
let
  inherit (config) systemd;
  value = v: if builtins.isBool v then lib.boolToString v else toString v;
  # One line for each value of each directive.
  lines =
    set:
    lib.concatLists (
      lib.mapAttrsToList (name: v: map (one: "${name}=${value one}") (lib.toList v)) set
    );
  present = lib.filterAttrs (_: v: v != "" && v != null);
  words = builtins.concatStringsSep " ";

  section = name: content: lib.optionals (content != [ ]) ([ "[${name}]" ] ++ content);
  head =
    unit:
    section "Unit" (
      lines (
        present {
          Description = unit.description;
          Documentation = words unit.documentation;
          After = words unit.after;
          Before = words unit.before;
          Conflicts = words unit.conflicts;
          PartOf = words unit.partOf;
          Requires = words unit.requires;
          Wants = words unit.wants;
          StartLimitIntervalSec = unit.startLimitIntervalSec;
        }
        // unit.unitConfig
      )
    );
  foot =
    unit: section "Install" (lib.optional (unit.wantedBy != [ ]) "WantedBy=${words unit.wantedBy}");
  path =
    unit:
    lib.concatMapStringsSep ":"
      (directory: lib.concatMapStringsSep ":" (package: "${package}/${directory}") unit.path)
      [
        "bin"
        "sbin"
      ];

  text =
    middle: unit:
    lib.concatMapStringsSep "" (line: line + "\n") (head unit ++ middle unit ++ foot unit);
  texts = {
    target = text (_: [ ]);
    timer = text (unit: section "Timer" (lines unit.timerConfig));
    socket = text (
      unit:
      section "Socket" (
        lines unit.socketConfig
        ++ map (stream: "ListenStream=${stream}") unit.listenStreams
        ++ map (datagram: "ListenDatagram=${datagram}") unit.listenDatagrams
      )
    );
    service = text (
      unit:
      section "Service" (
        lib.optional (unit.path != [ ]) "Environment=\"PATH=${path unit}\""
        ++ lib.optional (!unit.stopIfChanged) "X-StopIfChanged=false"
        ++ lib.optional unit.notSocketActivated "X-NotSocketActivated=true"
        ++ lines unit.serviceConfig
      )
    );
  };
  kinds = {
    target = systemd.targets;
    timer = systemd.timers;
    socket = systemd.sockets;
    service = systemd.services;
  };
  each =
    f: lib.concatLists (lib.mapAttrsToList (kind: units: lib.mapAttrsToList (f kind) units) kinds);

  file = content: builtins.concatStringsSep "\n" (content ++ [ "" ]);

  failed = lib.filter (assertion: !assertion.assertion) config.assertions;
in
{
  options.result = lib.mkOption { type = lib.types.anything; };
  config.result =
    if failed != [ ] then
      throw "Failed assertions:\n${
        lib.concatMapStringsSep "" ({ message, ... }: "- ${message}\n") failed
      }"
    else
      {
        inherit (config) warnings;
        inherit (config.networking) firewall interfaces nftables;
        ssh = lib.optionals config.services.openssh.enable config.services.openssh.ports;
        units = builtins.listToAttrs (
          each (
            kind: name: unit: {
              name = "${name}.${kind}";
              value = texts.${kind} unit;
            }
          )
        );
        # UNIT.wants/UNIT, as NixOS links them.
        links = lib.concatLists (
          each (
            kind: name: unit:
            map (wanting: "${wanting}.wants/${name}.${kind}") unit.wantedBy
          )
        );
        # Files in the store, with what is linked to each from /etc.
        etc = builtins.mapAttrs (_: entry: {
          inherit (entry.source) text;
          path = entry.source.outPath;
        }) config.environment.etc;
        tmpfiles = file (
          lib.concatLists (
            lib.mapAttrsToList (
              _: paths:
              lib.concatLists (
                lib.mapAttrsToList (
                  path: types:
                  lib.mapAttrsToList (type: rule: "${type} ${path} ${rule.mode} ${rule.user} ${rule.group} -") types
                ) paths
              )
            ) systemd.tmpfiles.settings
          )
        );
        checks = map (check: check.script) config.system.checks;
        sysusers = file (
          lib.mapAttrsToList (name: _: "g ${name} -") config.users.groups
          ++ lib.mapAttrsToList (name: user: "u ${name} - \"${user.description}\"") config.users.users
        );
      };
}
