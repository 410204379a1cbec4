//! What connection tracking knows of a connection, as messages and back. Builds and reads messages, sends none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLA_HEADER_SIZE, NlasIterator};

use crate::connections::{Peer, Raw, attribute, nested};

// Numbers from linux/netfilter/nfnetlink_conntrack.h.
const LIST: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
const IPV4: u8 = 2;
const IPV6: u8 = 10;
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const ADDRESSES: u16 = 1;
const TRANSPORT: u16 = 2;
const IPV4_SOURCE: u16 = 1;
const IPV6_SOURCE: u16 = 3;
const NUMBER: u16 = 1;
const DESTINATION_PORT: u16 = 3;

/// The family, version and resource, before the attributes of a message.
const HEADER: usize = 4;

/// A connection as it is tracked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tracked {
    /// Who opened it, and who answers.
    pub(crate) peers: [Option<Peer>; 2],
    family: u8,
    /// What names it.
    name: Vec<u8>,
}

/// The question for all connections of a family.
pub(crate) fn list(ipv4: bool) -> Raw {
    Raw { kind: LIST, body: vec![if ipv4 { IPV4 } else { IPV6 }, 0, 0, 0] }
}

impl Tracked {
    /// The connection that an answer tells of.
    pub(crate) fn read(ipv4: bool, body: &[u8]) -> Option<Tracked> {
        let (mut peers, mut name) = ([None, None], Vec::new());
        for (kind, value) in attributes(body.get(HEADER..)?) {
            match kind {
                ORIGINAL => {
                    peers[0] = peer(value);
                    name.extend(nested(kind, value));
                }
                REPLY => peers[1] = peer(value),
                // The number tells it from another one between the same ends.
                ID | ZONE => name.extend(attribute(kind, value)),
                _ => {}
            }
        }
        Some(Tracked { peers, family: if ipv4 { IPV4 } else { IPV6 }, name })
    }

    /// The request that has it forgotten.
    pub(crate) fn forget(self) -> Raw {
        Raw { kind: DELETE, body: [vec![self.family, 0, 0, 0], self.name].concat() }
    }
}

/// Who sends in one direction, and to which port.
fn peer(tuple: &[u8]) -> Option<Peer> {
    let part = |wanted: u16| attributes(tuple).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let (mut remote, mut port, mut transport) = (None, 0, 0);
    for (kind, value) in attributes(part(ADDRESSES)?) {
        remote = match kind {
            IPV4_SOURCE => Some(IpAddr::V4(Ipv4Addr::from(*value.first_chunk::<4>()?))),
            IPV6_SOURCE => Some(IpAddr::V6(Ipv6Addr::from(*value.first_chunk::<16>()?))),
            _ => remote,
        };
    }
    for (kind, value) in attributes(part(TRANSPORT)?) {
        match kind {
            NUMBER => transport = *value.first()?,
            DESTINATION_PORT => port = u16::from_be_bytes(*value.first_chunk()?),
            _ => {}
        }
    }
    Some(Peer { remote: remote?, port, transport })
}

/// Attributes with their kinds, up to the first that is broken.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(|attribute| {
        let attribute = attribute.ok()?;
        let (kind, length) = (attribute.kind(), usize::from(attribute.length()));
        Some((kind, attribute.into_inner().get(NLA_HEADER_SIZE..length)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(kind: u16, from: [u8; 4], port: u16) -> Vec<u8> {
        let addresses = [attribute(IPV4_SOURCE, &from), attribute(2, &[198, 51, 100, 1])].concat();
        let transport = [attribute(NUMBER, &[6]), attribute(DESTINATION_PORT, &port.to_be_bytes())].concat();
        nested(kind, &[nested(ADDRESSES, &addresses), nested(TRANSPORT, &transport)].concat())
    }

    #[test]
    fn a_connection_is_read_and_forgotten_by_name() {
        let original = tuple(ORIGINAL, [203, 0, 113, 7], 22);
        let id = attribute(ID, &[1, 2, 3, 4]);
        let answer = [
            vec![IPV4, 0, 0, 0],
            original.clone(),
            tuple(REPLY, [172, 17, 0, 2], 40_000),
            attribute(3, &[0, 0, 0, 2]),
            id.clone(),
        ];
        let tracked = Tracked::read(true, &answer.concat()).unwrap();
        let peer = |remote: &str, port| Peer { remote: remote.parse().unwrap(), port, transport: 6 };
        assert_eq!(tracked.peers, [Some(peer("203.0.113.7", 22)), Some(peer("172.17.0.2", 40_000))]);
        let forget = tracked.forget();
        assert_eq!((forget.kind, forget.body), (DELETE, [vec![IPV4, 0, 0, 0], original, id].concat()));
        assert_eq!(Tracked::read(true, &[]), None);
    }
}
