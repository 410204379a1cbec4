# The sockets of psentry: a decoy for each port, and the FIFOs between the stages.
{
  config,
  lib,
  options,
  pkgs,
  ...
}:
let
  cfg = config.services.psentry;
  inherit (import ./decoys.nix { inherit config lib options; }) possible;

  # Stopped once the target and whoever reads it are, but not restarted with them: a restart closes no decoy and loses
  # nothing that is in a FIFO. StopPropagatedFrom= would not do: since systemd 253 it stops at a restart, too. However
  # often it is started, it is started once more.
  held = {
    StopWhenUnneeded = true;
    StartLimitIntervalSec = 0;
  };

  nameOf = protocol: port: "psentry-${protocol}@${toString port}";
  # Full units and not instances of a template: so a switch closes the decoys that are no longer named.
  decoys =
    protocol:
    lib.listToAttrs (
      map (
        port:
        lib.nameValuePair (nameOf protocol port) (
          lib.mkIf (lib.elem port cfg."${protocol}Ports") (decoy protocol)
        )
      ) (possible protocol)
    );
  decoy = protocol: {
    description = "psentry: decoy on ${lib.toUpper protocol} port %i";
    documentation = [ "man:psentry-listen(8)" ];
    unitConfig = held;
    wantedBy = [ "psentry.target" ];
    socketConfig = {
      FileDescriptorName = protocol;
      Service = "psentry-listen.service";
      TriggerLimitIntervalSec = 0;
      # 0x70730001: psentry-trap asks the kernel by this mark which sockets are decoys.
      Mark = 1886584833;
    }
    // (
      if protocol == "tcp" then
        {
          ListenStream = "%i";
          Backlog = 64;
        }
      else
        { ListenDatagram = "%i"; }
    );
  };

  # The decoy on every port that no service has, to which psentry-trap sends what came there.
  mirage =
    let
      port = if cfg.trap.mirage == true then 61999 else cfg.trap.mirage;
    in
    {
      description = "psentry: decoy on every port that no service has";
      documentation = [
        "man:psentry-listen(8)"
        "man:psentry-trap(8)"
      ];
      unitConfig = held;
      wantedBy = [ "psentry.target" ];
      socketConfig = {
        ListenStream = port;
        ListenDatagram = port;
        # May take what is addressed to other ports; psentry-listen knows a mirage by it.
        Transparent = true;
        FileDescriptorName = "mirage";
        Service = "psentry-listen.service";
        TriggerLimitIntervalSec = 0;
        # As that of a decoy.
        Mark = 1886584833;
      };
    };
  sockets =
    lib.concatMap
      (protocol: map (port: "${nameOf protocol port}.socket") (lib.unique cfg."${protocol}Ports"))
      [
        "tcp"
        "udp"
      ]
    ++ lib.optional (cfg.trap.mirage != false) "psentry-mirage.socket";

  # Held open by systemd, so that what is on its way waits there while its reader restarts; `access` is who may open it.
  fifo = name: what: reader: access: {
    description = "psentry: the FIFO of ${what}";
    documentation = [
      "man:psentry(7)"
      "man:psentry-records(5)"
    ];
    unitConfig = held;
    socketConfig = access // {
      # While psentry is stopped, a script of root's that writes here makes a file, which would keep the FIFO from being
      # made.
      ExecStartPre = "${lib.getExe' pkgs.coreutils "rm"} -f /run/psentry/${name}";
      ListenFIFO = "/run/psentry/${name}";
      FileDescriptorName = name;
      Service = "psentry-${reader}.service";
      DirectoryMode = "0755";
      PipeSize = "1M";
      RemoveOnStop = true;
      TriggerLimitIntervalSec = 0;
    };
  };

  # A probe accuses, so whoever is in the group may write one; what is written as a verdict is done.
  group = {
    SocketUser = "root";
    SocketGroup = "psentry";
    SocketMode = "0620";
  };
  root = {
    SocketUser = "root";
    SocketMode = "0600";
  };
in
{
  config = lib.mkIf cfg.enable {
    systemd.targets.psentry.wants = [
      "psentry-events.socket"
      "psentry-verdicts.socket"
    ];

    systemd.sockets = lib.mkMerge [
      (decoys "tcp")
      (decoys "udp")
      {
        psentry-events = fifo "events" "probes" "judge" group;
        psentry-verdicts = fifo "verdicts" "verdicts" "block" root;
        # A vouch lets its address see hidden ports.
        psentry-vouches = lib.mkIf cfg.trap.enable (fifo "vouches" "vouches" "trap" root);
      }
      (lib.mkIf (cfg.trap.mirage != false) { psentry-mirage = mirage; })
    ];
    # Named, so that a restart of the listener opens those that came with a switch.
    systemd.services.psentry-listen = lib.mkIf (sockets != [ ]) { serviceConfig.Sockets = sockets; };
  };
}
