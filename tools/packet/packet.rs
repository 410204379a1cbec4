//! A packet as far as its headers tell: IPv4 with options, IPv6 with extension headers, fragments, and what follows.

use std::net::IpAddr;

use etherparse::err::{ipv4, ipv6};
use etherparse::{IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice, TcpHeaderSlice, UdpHeaderSlice};
use psentry_records::{Kind, Proto};

use crate::carried::{Carried, bounded};
use crate::signature::{self, Signature};
use crate::tcp::Tcp;

/// What the headers of one packet say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// From where, or so it says.
    pub source: IpAddr,
    /// To where.
    pub destination: IpAddr,
    /// How many hops it may still make.
    pub ttl: u8,
    /// The identification of IPv4.
    pub id: Option<u16>,
    /// "Don't fragment" of IPv4.
    pub dont_fragment: Option<bool>,
    /// Whether it is a piece of a packet.
    pub fragment: bool,
    /// What it carries.
    pub transport: Transport,
}

/// What a packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp(Tcp),
    /// UDP.
    Udp {
        /// From which port.
        source_port: u16,
        /// To which port.
        destination_port: u16,
    },
    /// ICMP of either version.
    Icmp {
        /// The protocol of IPv6.
        v6: bool,
        /// Its type: 8 is IPv4's ping, 128 IPv6's.
        kind: u8,
        /// Its code.
        code: u8,
    },
    /// Another protocol, by its number.
    Other(u8),
    /// The header is cut off, makes no sense, or is in another piece of the packet.
    Partial {
        /// The number of the protocol.
        protocol: u8,
        /// Source and destination port, where they are there.
        ports: Option<(u16, u16)>,
    },
}

/// Why bytes are no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Shorter than an IP header.
    #[error("the IP header is cut off")]
    Short,
    /// Neither IPv4 nor IPv6, or a header that claims to be shorter than it can be.
    #[error("it begins with no IP header")]
    NoIp,
}

impl Packet {
    /// Reads a packet from its IP header on. What follows the headers may be cut off.
    ///
    /// # Errors
    /// When not even the addresses can be read.
    pub fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        match bytes.first().map(|first| first >> 4) {
            Some(4) => Self::read_v4(bytes),
            Some(6) => Self::read_v6(bytes),
            Some(_) => Err(Unreadable::NoIp),
            None => Err(Unreadable::Short),
        }
    }

    fn read_v4(bytes: &[u8]) -> Result<Self, Unreadable> {
        let header = Ipv4HeaderSlice::from_slice(bytes).map_err(|error| match error {
            ipv4::HeaderSliceError::Len(_) => Unreadable::Short,
            ipv4::HeaderSliceError::Content(_) => Unreadable::NoIp,
        })?;
        let rest = bounded(bytes, header.slice().len(), header.total_len().into());
        let carried = Carried {
            v6: false,
            protocol: header.protocol(),
            offset: header.fragments_offset().value(),
            fragment: header.is_fragmenting_payload(),
            rest: Some(rest),
        };
        let carried = carried.past_extensions();
        Ok(Packet {
            source: header.source_addr().into(),
            destination: header.destination_addr().into(),
            ttl: header.ttl(),
            id: Some(header.identification()),
            dont_fragment: Some(header.dont_fragment()),
            fragment: carried.fragment,
            transport: carried.transport(),
        })
    }

    fn read_v6(bytes: &[u8]) -> Result<Self, Unreadable> {
        let header = Ipv6HeaderSlice::from_slice(bytes).map_err(|error| match error {
            ipv6::HeaderSliceError::Len(_) => Unreadable::Short,
            ipv6::HeaderSliceError::Content(_) => Unreadable::NoIp,
        })?;
        let own = header.slice().len();
        let rest = bounded(bytes, own, own + usize::from(header.payload_length()));
        let carried = Carried {
            v6: true,
            protocol: header.next_header(),
            offset: 0,
            fragment: false,
            rest: Some(rest),
        };
        let carried = carried.past_extensions();
        Ok(Packet {
            source: header.source_addr().into(),
            destination: header.destination_addr().into(),
            ttl: header.hop_limit(),
            id: None,
            dont_fragment: None,
            fragment: carried.fragment,
            transport: carried.transport(),
        })
    }

    /// Source and destination port.
    #[must_use]
    pub fn ports(&self) -> Option<(u16, u16)> {
        match &self.transport {
            Transport::Tcp(tcp) => Some((tcp.source_port, tcp.destination_port)),
            Transport::Udp { source_port, destination_port } => Some((*source_port, *destination_port)),
            Transport::Partial { ports, .. } => *ports,
            Transport::Icmp { .. } | Transport::Other(_) => None,
        }
    }

    /// The transport, as records name it.
    #[must_use]
    pub fn proto(&self) -> Proto {
        match &self.transport {
            Transport::Tcp(_) => Proto::Tcp,
            Transport::Udp { .. } => Proto::Udp,
            Transport::Icmp { v6: false, .. } => Proto::Icmp,
            Transport::Icmp { v6: true, .. } => Proto::Icmpv6,
            Transport::Other(protocol) | Transport::Partial { protocol, .. } => match IpNumber(*protocol) {
                IpNumber::TCP => Proto::Tcp,
                IpNumber::UDP => Proto::Udp,
                IpNumber::ICMP => Proto::Icmp,
                IpNumber::IPV6_ICMP => Proto::Icmpv6,
                IpNumber::SCTP => Proto::Sctp,
                _ => Proto::Other,
            },
        }
    }

    /// The kind of probe that this is. A window scan sends what an ACK scan sends and differs only in how it reads
    /// the answer, so it is `ack`.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match &self.transport {
            Transport::Tcp(tcp) => tcp.flags.kind(),
            Transport::Udp { .. } => Kind::Udp,
            Transport::Partial { protocol, ports: Some(_) } if IpNumber(*protocol) == IpNumber::UDP => {
                Kind::Udp
            }
            _ => Kind::Other,
        }
    }

    /// The flags of TCP, where the kind does not say them already: `syn+fin`.
    #[must_use]
    pub fn odd_flags(&self) -> Option<String> {
        match &self.transport {
            Transport::Tcp(tcp) if tcp.flags.kind() == Kind::Other => Some(tcp.flags.to_string()),
            _ => None,
        }
    }

    /// The scanner whose handwriting a SYN bears. Evidence, never proof: whoever builds packets may imitate any
    /// other, and a small device's own stack may write as a scanner does.
    #[must_use]
    pub fn signature(&self) -> Option<Signature> {
        signature::of(self)
    }
}

impl Transport {
    pub(crate) fn read(protocol: IpNumber, bytes: &[u8]) -> Self {
        let partial = || Transport::Partial { protocol: protocol.0, ports: ports(protocol, bytes) };
        match protocol {
            IpNumber::TCP => TcpHeaderSlice::from_slice(bytes)
                .map_or_else(|_| partial(), |tcp| Transport::Tcp(Tcp::read(&tcp))),
            IpNumber::UDP => UdpHeaderSlice::from_slice(bytes).map_or_else(
                |_| partial(),
                |udp| Transport::Udp {
                    source_port: udp.source_port(),
                    destination_port: udp.destination_port(),
                },
            ),
            IpNumber::ICMP | IpNumber::IPV6_ICMP => match bytes {
                [kind, code, ..] => {
                    Transport::Icmp { v6: protocol == IpNumber::IPV6_ICMP, kind: *kind, code: *code }
                }
                _ => partial(),
            },
            other => Transport::Other(other.0),
        }
    }
}

/// The ports of a header of which the rest is missing or wrong: they are its first four bytes.
fn ports(protocol: IpNumber, bytes: &[u8]) -> Option<(u16, u16)> {
    match (protocol, bytes) {
        (IpNumber::TCP | IpNumber::UDP, [a, b, c, d, ..]) => {
            Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])))
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "packet/tests.rs"]
mod tests;
