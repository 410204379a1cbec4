//! One direction of a connection, as its remote end sends it: what a block is compared with.

use std::net::IpAddr;

/// Packets from a remote address to a local port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    /// The address that sends them; IPv4 even where the socket is one of IPv6.
    pub(crate) remote_addr: IpAddr,
    /// The port that they are sent to: of this machine, or of one behind it.
    pub(crate) local_port: u16,
    /// The number of the transport protocol (IANA): 6 is TCP, 17 UDP.
    pub(crate) protocol: u8,
}
