# What every stage lives in: no capability, no device, no file but its own, and only the system calls that such a program needs.
{
  NoNewPrivileges = true;
  DynamicUser = true;
  UMask = "0077";
  DevicePolicy = "closed";
  LockPersonality = true;
  MemoryDenyWriteExecute = true;
  PrivateDevices = true;
  PrivateIPC = true;
  PrivateMounts = true;
  PrivateTmp = true;
  ProcSubset = "pid";
  ProtectClock = true;
  ProtectControlGroups = true;
  ProtectHome = true;
  ProtectHostname = true;
  ProtectKernelLogs = true;
  ProtectKernelModules = true;
  ProtectKernelTunables = true;
  ProtectProc = "invisible";
  ProtectSystem = "strict";
  RemoveIPC = true;
  RestrictNamespaces = true;
  RestrictRealtime = true;
  RestrictSUIDSGID = true;
  IPAddressDeny = "any";
  SystemCallArchitectures = "native";
  SystemCallErrorNumber = "EPERM";
  SystemCallFilter = [
    "@system-service"
    "~@privileged @resources"
  ];
  CapabilityBoundingSet = "";
  AmbientCapabilities = "";
  PrivateNetwork = true;
  PrivateUsers = true;
  RestrictAddressFamilies = "none";
}
