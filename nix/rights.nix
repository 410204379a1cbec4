# What psentry-block may, by its backends, beyond the sandbox: the same as in units/psentry-block.service and units/rights/.
{
  lib,
  enable,
  backends,
  execNetwork,
}:
let
  ipset = lib.elem "ipset" backends;
  network = execNetwork && lib.elem "exec" backends;
  words = lib.concatStringsSep " ";
  capabilities = words (
    # The one right that a firewall takes.
    lib.optional enable "CAP_NET_ADMIN"
    # To read a rule that matches a set, iptables asks for the set's name by a raw socket.
    ++ lib.optional ipset "CAP_NET_RAW"
  );
in
{
  # A user of its own, as the group is to read its log.
  DynamicUser = false;
  CapabilityBoundingSet = capabilities;
  AmbientCapabilities = capabilities;
  # To the kernel; for commands, and to say that it is ready.
  RestrictAddressFamilies = words (
    [
      "AF_NETLINK"
      "AF_UNIX"
    ]
    ++ lib.optional (ipset || network) "AF_INET"
    ++ lib.optional network "AF_INET6"
  );
  PrivateNetwork = false;
  PrivateUsers = false;
}
// lib.optionalAttrs network {
  # Allowed is stronger than denied.
  IPAddressAllow = "any";
}
