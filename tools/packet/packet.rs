//! A packet as far as its headers go: IPv4 with options, IPv6 with extension headers, fragments, and what follows.

use std::net::IpAddr;

use etherparse::err::{ipv4, ipv6};
use etherparse::{IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice};
use psentry_records::{Kind, Proto};

use crate::ip_payload::{IpPayload, bounded};
use crate::transport::Transport;

/// What the headers of one packet say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The source address, which the sender may have forged.
    pub source: IpAddr,
    /// The destination address.
    pub destination: IpAddr,
    /// The time to live, or hop limit, as it arrived: how many routers it might still have passed.
    pub ttl: u8,
    /// The identification field of IPv4; `None` in IPv6.
    pub ip_id: Option<u16>,
    /// The flag "don't fragment" of IPv4; `None` in IPv6, which has none.
    pub dont_fragment: Option<bool>,
    /// Whether it is a fragment of a larger packet.
    pub is_fragment: bool,
    /// What it carries, in this fragment.
    pub transport: Transport,
}

/// Why bytes are no IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// They are shorter than an IP header.
    #[error("the IP header is cut off")]
    Truncated,
    /// The version is neither 4 nor 6, or the header length is less than its minimum.
    #[error("it begins with no IP header")]
    NotIp,
}

impl Packet {
    /// Parses a packet from its IP header on. It may be cut off anywhere behind that.
    ///
    /// # Errors
    /// When not even the addresses can be read.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        match bytes.first().map(|first| first >> 4) {
            Some(4) => Self::parse_v4(bytes),
            Some(6) => Self::parse_v6(bytes),
            Some(_) => Err(ParseError::NotIp),
            None => Err(ParseError::Truncated),
        }
    }

    fn parse_v4(bytes: &[u8]) -> Result<Self, ParseError> {
        let header = Ipv4HeaderSlice::from_slice(bytes).map_err(|error| match error {
            ipv4::HeaderSliceError::Len(_) => ParseError::Truncated,
            ipv4::HeaderSliceError::Content(_) => ParseError::NotIp,
        })?;
        let rest = bounded(bytes, header.slice().len(), header.total_len().into());
        let payload = IpPayload {
            v6: false,
            protocol: header.protocol(),
            offset: header.fragments_offset().value(),
            is_fragment: header.is_fragmenting_payload(),
            bytes: Some(rest),
        };
        let payload = payload.skip_extension_headers();
        Ok(Packet {
            source: header.source_addr().into(),
            destination: header.destination_addr().into(),
            ttl: header.ttl(),
            ip_id: Some(header.identification()),
            dont_fragment: Some(header.dont_fragment()),
            is_fragment: payload.is_fragment,
            transport: payload.transport(),
        })
    }

    fn parse_v6(bytes: &[u8]) -> Result<Self, ParseError> {
        let header = Ipv6HeaderSlice::from_slice(bytes).map_err(|error| match error {
            ipv6::HeaderSliceError::Len(_) => ParseError::Truncated,
            ipv6::HeaderSliceError::Content(_) => ParseError::NotIp,
        })?;
        let own = header.slice().len();
        let rest = bounded(bytes, own, own + usize::from(header.payload_length()));
        let payload = IpPayload {
            v6: true,
            protocol: header.next_header(),
            offset: 0,
            is_fragment: false,
            bytes: Some(rest),
        };
        let payload = payload.skip_extension_headers();
        Ok(Packet {
            source: header.source_addr().into(),
            destination: header.destination_addr().into(),
            ttl: header.hop_limit(),
            ip_id: None,
            dont_fragment: None,
            is_fragment: payload.is_fragment,
            transport: payload.transport(),
        })
    }

    /// Source and destination port; `None`: its protocol has none, or they are cut off.
    #[must_use]
    pub fn ports(&self) -> Option<(u16, u16)> {
        match &self.transport {
            Transport::Tcp(tcp) => Some((tcp.source_port, tcp.destination_port)),
            Transport::Udp { source_port, destination_port } => Some((*source_port, *destination_port)),
            Transport::Partial { ports, .. } => *ports,
            Transport::Icmp { .. } | Transport::Other(_) => None,
        }
    }

    /// The protocol that it carries, as records name it.
    #[must_use]
    pub fn proto(&self) -> Proto {
        match &self.transport {
            Transport::Tcp(_) => Proto::Tcp,
            Transport::Udp { .. } => Proto::Udp,
            Transport::Icmp { v6: false, .. } => Proto::Icmp,
            Transport::Icmp { v6: true, .. } => Proto::Icmpv6,
            Transport::Other(protocol) | Transport::Partial { protocol, .. } => Proto::from_number(*protocol),
        }
    }

    /// The kind of probe that it is. A window scan sends the same packet as an ACK scan and differs only in what it
    /// reads from the answer, so it is `ack`.
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

    /// The TCP flags, such as `syn+fin`, of a packet whose kind is `other`; `None`: the kind implies them.
    #[must_use]
    pub fn unusual_flags(&self) -> Option<String> {
        match &self.transport {
            Transport::Tcp(tcp) if tcp.flags.kind() == Kind::Other => Some(tcp.flags.to_string()),
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "packet/tests.rs"]
mod tests;
