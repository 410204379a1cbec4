//! What connection tracking knows of a connection, as messages and back. Builds and reads messages, sends none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLA_HEADER_SIZE, NlasIterator};
use psentry_records::Prefix;

use crate::ending::{Peer, Raw, attribute, nested};

// Numbers from linux/netfilter/nfnetlink_conntrack.h.
const LIST: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
const IPV4: u8 = 2;
const IPV6: u8 = 10;
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
const OF_ORIGINAL: u16 = 1;
const OF_REPLY: u16 = 2;
const BY_SOURCE: u32 = 1;
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

/// The questions for the connections that may have a peer in these scopes, each with its family: of a single host the
/// kernel lists what it opened and what it answers; of more, or of networks, it lists a family. A kernel that knows no
/// such filter lists all.
pub(crate) fn lists(scopes: &[Prefix]) -> Vec<(bool, Raw)> {
    if let [host] = scopes
        && host.is_host()
    {
        let only = |tuple, flags| (host.is_ipv4(), of_host(host.addr(), tuple, flags));
        return vec![only(ORIGINAL, OF_ORIGINAL), only(REPLY, OF_REPLY)];
    }
    let asked = [true, false].into_iter().filter(|ipv4| scopes.iter().any(|s| s.is_ipv4() == *ipv4));
    asked.map(|ipv4| (ipv4, Raw { kind: LIST, body: head(ipv4) })).collect()
}

/// The question for the connections in which an address is the source of that direction.
fn of_host(addr: IpAddr, tuple: u16, flags: u16) -> Raw {
    let source = match addr {
        IpAddr::V4(v4) => attribute(IPV4_SOURCE, &v4.octets()),
        IpAddr::V6(v6) => attribute(IPV6_SOURCE, &v6.octets()),
    };
    let mut body = head(addr.is_ipv4());
    body.extend(nested(tuple, &nested(ADDRESSES, &source)));
    body.extend(nested(FILTER, &attribute(flags, &BY_SOURCE.to_ne_bytes())));
    Raw { kind: LIST, body }
}

fn head(ipv4: bool) -> Vec<u8> {
    vec![if ipv4 { IPV4 } else { IPV6 }, 0, 0, 0]
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
    fn only_of_a_single_host_the_kernel_can_list_the_connections_alone() {
        let kinds = |scopes: &[&str]| {
            let scopes: Vec<Prefix> = scopes.iter().map(|scope| scope.parse().unwrap()).collect();
            let short = |(ipv4, raw): (bool, Raw)| (ipv4, raw.body.len() > HEADER);
            lists(&scopes).into_iter().map(short).collect::<Vec<_>>()
        };
        assert_eq!(kinds(&["192.0.2.7"]), [(true, true), (true, true)]);
        assert_eq!(kinds(&["2001:db8::1/128"]), [(false, true), (false, true)]);
        assert_eq!(kinds(&["2001:db8::/64"]), [(false, false)]);
        assert_eq!(kinds(&["192.0.2.7", "192.0.2.8", "2001:db8::/64"]), [(true, false), (false, false)]);
        assert_eq!(kinds(&[]), []);
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
