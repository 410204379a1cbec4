//! Connected sockets as messages of sock_diag(7) and back. Builds and reads messages, sends none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use psentry_records::Prefix;

use crate::ending::{Peer, Raw, attribute};

// Numbers from linux/sock_diag.h, linux/inet_diag.h and the system.
const LIST: u16 = 20;
const END: u16 = 21;
const FILTER: u16 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// The states of a connection that somebody could still use or finish: not listening, closed, or only waited out
/// (linux/tcp_states.h). A connected UDP socket counts as established.
const STATES: u32 = 0b1_1011_0011_1110;

/// How long the identity of a socket is, and where it stands in an answer: ports, addresses, interface, cookie.
const IDENTITY: usize = 48;
const AT: usize = 4;

/// A connected socket.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found {
    pub(crate) peer: Peer,
    family: u8,
    identity: Vec<u8>,
}

/// The questions for all connected sockets that may have a peer in these scopes; IPv4 may hide in sockets of IPv6.
pub(crate) fn lists(scopes: &[Prefix], filter: Option<&[u8]>) -> Vec<Raw> {
    let ipv4 = scopes.iter().any(|scope| scope.is_ipv4());
    let families = [ipv4.then_some(AF_INET), (!scopes.is_empty()).then_some(AF_INET6)];
    let question = |(family, transport): (u8, u8)| {
        let mut body = request(family, transport, &[0; IDENTITY]);
        body.extend(filter.map(|filter| attribute(FILTER, filter)).unwrap_or_default());
        Raw { kind: LIST, body }
    };
    let families = families.into_iter().flatten();
    families.flat_map(|family| [(family, TCP), (family, UDP)]).map(question).collect()
}

/// The socket that an answer to `question` tells of.
pub(crate) fn read(question: &Raw, body: &[u8]) -> Option<Found> {
    let transport = *question.body.get(1)?;
    let family = *body.first()?;
    let identity = body.get(AT..AT + IDENTITY)?;
    let port = u16::from_be_bytes(*identity.first_chunk()?);
    let remote = identity.get(20..36)?;
    let remote: IpAddr = match family {
        AF_INET => Ipv4Addr::from(*remote.first_chunk::<4>()?).into(),
        AF_INET6 => IpAddr::V6(Ipv6Addr::from(*remote.first_chunk::<16>()?)).to_canonical(),
        _ => return None,
    };
    Some(Found { peer: Peer { remote, port, transport }, family, identity: identity.to_vec() })
}

impl Found {
    /// The request that ends it, and no other that has taken its place.
    pub(crate) fn end(self) -> Raw {
        Raw { kind: END, body: request(self.family, self.peer.transport, &self.identity) }
    }
}

/// The request that ends a socket which cannot be: one between ports 0.
pub(crate) fn end_nobodys() -> Raw {
    let mut identity = [0; IDENTITY];
    // Whatever cookie.
    identity.iter_mut().skip(40).for_each(|byte| *byte = u8::MAX);
    Raw { kind: END, body: request(AF_INET, TCP, &identity) }
}

fn request(family: u8, transport: u8, identity: &[u8]) -> Vec<u8> {
    let mut body = vec![family, transport, 0, 0];
    body.extend(STATES.to_ne_bytes());
    body.extend_from_slice(identity);
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(family: u8, remote: &[u8]) -> Vec<u8> {
        let mut body = vec![family, 1, 0, 0, 0, 22, 0xd4, 0x31];
        body.extend([9; 16]);
        body.extend_from_slice(remote);
        body.resize(AT + IDENTITY - 12, 0);
        body.extend([1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        body
    }

    #[test]
    fn a_socket_is_read_and_ended_by_its_identity() {
        let scopes: Vec<Prefix> = vec!["192.0.2.7".parse().unwrap()];
        let questions = lists(&scopes, Some(&[1, 2, 3, 4]));
        assert_eq!(questions.len(), 4, "IPv4 may be in a socket of IPv6");
        let peer = |remote: &str| Peer { remote: remote.parse().unwrap(), port: 22, transport: TCP };
        let mapped: Ipv6Addr = "::ffff:192.0.2.7".parse().unwrap();
        for (family, remote) in [(AF_INET, vec![192, 0, 2, 7]), (AF_INET6, mapped.octets().to_vec())] {
            let found = read(&questions[0], &answer(family, &remote)).unwrap();
            assert_eq!(found.peer, peer("192.0.2.7"));
            let end = found.end();
            assert_eq!((end.kind, end.body[0], end.body[1]), (END, family, TCP));
            assert_eq!(end.body[8..], answer(family, &remote)[AT..]);
        }
        assert_eq!(read(&questions[0], &[AF_INET; 30]), None);
        assert_eq!(lists(&["2001:db8::/64".parse().unwrap()], None).len(), 2);
    }
}
