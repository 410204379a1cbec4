//! What an IP packet carries, as far as its bytes go: the header of TCP, UDP or ICMP.

use etherparse::{IpNumber, TcpHeaderSlice, UdpHeaderSlice};

use crate::tcp::TcpHeader;

/// What a packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A TCP header.
    Tcp(TcpHeader),
    /// A UDP header.
    Udp {
        /// The sender's port.
        source_port: u16,
        /// The receiver's port.
        destination_port: u16,
    },
    /// ICMP of either version.
    Icmp {
        /// Whether it is ICMPv6.
        v6: bool,
        /// Its type (IANA): an echo request is 8 in ICMP and 128 in ICMPv6.
        icmp_type: u8,
        /// Its code, which refines the type.
        code: u8,
    },
    /// Another protocol, by its number (IANA).
    Other(u8),
    /// TCP, UDP or ICMP of which the header is cut off, makes no sense, or is in another fragment.
    Partial {
        /// The number of the protocol (IANA).
        protocol: u8,
        /// Source and destination port, if at least those are there.
        ports: Option<(u16, u16)>,
    },
}

impl Transport {
    /// Reads the header of `protocol` that `bytes` begin with.
    pub(crate) fn parse(protocol: IpNumber, bytes: &[u8]) -> Self {
        let partial = || Transport::Partial { protocol: protocol.0, ports: ports(protocol, bytes) };
        match protocol {
            IpNumber::TCP => TcpHeaderSlice::from_slice(bytes)
                .map_or_else(|_| partial(), |tcp| Transport::Tcp(TcpHeader::from_slice(&tcp))),
            IpNumber::UDP => UdpHeaderSlice::from_slice(bytes).map_or_else(
                |_| partial(),
                |udp| Transport::Udp {
                    source_port: udp.source_port(),
                    destination_port: udp.destination_port(),
                },
            ),
            IpNumber::ICMP | IpNumber::IPV6_ICMP => match bytes {
                [icmp_type, code, ..] => Transport::Icmp {
                    v6: protocol == IpNumber::IPV6_ICMP,
                    icmp_type: *icmp_type,
                    code: *code,
                },
                _ => partial(),
            },
            other => Transport::Other(other.0),
        }
    }
}

/// The ports of a header of which the rest is missing or malformed: they are its first four bytes.
fn ports(protocol: IpNumber, bytes: &[u8]) -> Option<(u16, u16)> {
    match (protocol, bytes) {
        (IpNumber::TCP | IpNumber::UDP, [a, b, c, d, ..]) => {
            Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])))
        }
        _ => None,
    }
}
