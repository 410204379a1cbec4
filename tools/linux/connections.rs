//! Which connections stand, asked of the kernel by their ports (sock_diag(7)). The kernel is handed a filter with the
//! question, so that it picks out the few that are meant and does not send all of them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use netlink_packet_core::{
    DecodeError, Emitable, NetlinkHeader, NetlinkSerializable, NlasIterator, Parseable,
};
use netlink_packet_sock_diag::constants::SOCK_DIAG_BY_FAMILY;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags};
use netlink_packet_sock_diag::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use nix::errno::Errno;
use psentry_records::canonical;

use crate::error::Error;
use crate::filter;
use crate::netlink::Link;

/// The attribute of a request that holds its filter (linux/inet_diag.h).
const BYTECODE: u16 = 1;

/// The attribute of an answer that holds options of the socket (`inet_diag_sockopt`), and in its first byte the one that
/// says that it is transparent.
const OPTIONS: u16 = 22;
const TRANSPARENT: u8 = if cfg!(target_endian = "little") { 1 << 5 } else { 1 << 2 };

/// The length of an answer before its attributes (`inet_diag_msg`).
const ANSWER: usize = 72;

/// The length of an attribute's header (netlink(7)).
const ATTRIBUTE: usize = 4;

/// The longest filter that an attribute has room for.
const ROOM: usize = u16::MAX as usize - ATTRIBUTE;

/// Whose connections are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP, established.
    Tcp,
    /// UDP sockets that are bound to one peer by connect(2).
    Udp,
}

/// By which ports: those with one of either are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// Ports of this machine.
    pub local: Vec<RangeInclusive<u16>>,
    /// Ports of the other end.
    pub remote: Vec<RangeInclusive<u16>>,
}

/// A connection that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Connection {
    /// The port at this end.
    pub local: u16,
    /// The address of the other end.
    pub peer: IpAddr,
    /// The port of the other end.
    pub remote: u16,
    /// Whether its socket is transparent: its port need not be one that something listens on. Kernels before 5.10 do
    /// not tell.
    pub transparent: bool,
    /// The kernel's number for its socket, which no other has until a reboot.
    pub cookie: [u8; 8],
}

impl Ports {
    fn hold(&self, connection: &Connection) -> bool {
        let holds = |ranges: &[RangeInclusive<u16>], port| ranges.iter().any(|range| range.contains(&port));
        holds(&self.local, connection.local) || holds(&self.remote, connection.remote)
    }
}

/// The connections with these ports, of IPv4 and IPv6. The inner error: this kernel cannot tell.
///
/// # Errors
/// When it does not answer.
pub fn connections(transport: Transport, ports: &Ports) -> Result<Result<Vec<Connection>, Errno>, Error> {
    let doing = "list the connections that stand";
    let filter = Some(filter::ports(&ports.local, &ports.remote)).filter(|filter| filter.len() <= ROOM);
    let mut all = match sockets(doing, transport, StateFlags::ESTABLISHED, &filter.unwrap_or_default())? {
        Ok(all) => all,
        Err(errno) => return Ok(Err(errno)),
    };
    // Where the filter found no room all of them came.
    all.retain(|connection| ports.hold(connection));
    Ok(Ok(all))
}

/// The ports of this machine on which something waits for whoever comes. The inner error: this kernel cannot tell.
///
/// # Errors
/// When it does not answer.
pub fn listening(transport: Transport) -> Result<Result<BTreeSet<u16>, Errno>, Error> {
    // A UDP socket without a peer is "closed".
    let state = if transport == Transport::Tcp { StateFlags::LISTEN } else { StateFlags::CLOSE };
    let found = sockets("list the ports that something listens on", transport, state, &[])?;
    Ok(found.map(|found| found.into_iter().map(|socket| socket.local).collect()))
}

fn sockets(
    doing: &'static str,
    transport: Transport,
    states: StateFlags,
    filter: &[u8],
) -> Result<Result<Vec<Connection>, Errno>, Error> {
    let mut link = match Link::open(NETLINK_SOCK_DIAG) {
        Err(error) if error.is_unsupported() => return Ok(Err(Errno::EPROTONOSUPPORT)),
        link => link?,
    };
    let mut all = Vec::new();
    for (family, socket_id) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
        let question = Question {
            request: InetRequest {
                family,
                protocol: if transport == Transport::Tcp { IPPROTO_TCP } else { IPPROTO_UDP },
                extensions: ExtensionFlags::empty(),
                states: states.clone(),
                socket_id,
            },
            filter: filter.to_vec(),
        };
        match link.dump_as(doing, &question, connection)? {
            Ok(found) => all.extend(found),
            // The module of the protocol is not there, or the kernel is without it.
            Err(errno @ (Errno::ENOENT | Errno::EOPNOTSUPP | Errno::EINVAL | Errno::EPERM)) => {
                return Ok(Err(errno));
            }
            Err(errno) => return Err(Error::Refused { doing, errno }),
        }
    }
    Ok(Ok(all))
}

fn connection(_: &NetlinkHeader, payload: &[u8]) -> Result<Connection, String> {
    let socket = InetResponseHeader::parse(payload).map_err(|error: DecodeError| error.to_string())?;
    let id = socket.socket_id;
    Ok(Connection {
        local: id.source_port,
        peer: canonical(id.destination_address),
        remote: id.destination_port,
        transparent: is_transparent(payload.get(ANSWER..).unwrap_or_default()),
        cookie: id.cookie,
    })
}

fn is_transparent(attributes: &[u8]) -> bool {
    let options = NlasIterator::new(attributes).filter_map(Result::ok).find(|it| it.kind() == OPTIONS);
    options.is_some_and(|options| options.value().first().is_some_and(|first| first & TRANSPARENT != 0))
}

/// A request with its filter.
#[derive(Clone)]
struct Question {
    request: InetRequest,
    filter: Vec<u8>,
}

impl NetlinkSerializable for Question {
    fn message_type(&self) -> u16 {
        SOCK_DIAG_BY_FAMILY
    }

    fn buffer_len(&self) -> usize {
        let filter = if self.filter.is_empty() { 0 } else { ATTRIBUTE + self.filter.len() };
        self.request.buffer_len() + filter
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let (request, attribute) = buffer.split_at_mut(self.request.buffer_len());
        self.request.emit(request);
        let length = u16::try_from(attribute.len()).unwrap_or_default();
        let bytes = length.to_ne_bytes().into_iter().chain(BYTECODE.to_ne_bytes());
        for (into, byte) in attribute.iter_mut().zip(bytes.chain(self.filter.iter().copied())) {
            *into = byte;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    fn tcp(ports: &Ports) -> Vec<Connection> {
        connections(Transport::Tcp, ports).unwrap().unwrap()
    }

    #[test]
    fn a_connection_is_found_by_either_of_its_ports_and_by_no_other() {
        for address in ["127.0.0.1:0", "[::ffff:127.0.0.1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let port = listener.local_addr().unwrap().port();
            let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let theirs = client.local_addr().unwrap().port();
            let of = |local: Vec<_>, remote: Vec<_>| tcp(&Ports { local, remote });
            let found = of(vec![1..=1, port..=port], Vec::new());
            assert_eq!(found.iter().map(|c| (c.local, c.remote)).collect::<Vec<_>>(), [(port, theirs)]);
            assert_eq!(found[0].peer, IpAddr::from([127, 0, 0, 1]), "{address}");
            let found = of(vec![1..=1], vec![port..=port]);
            assert_eq!(found.iter().map(|c| (c.local, c.remote)).collect::<Vec<_>>(), [(theirs, port)]);
            let found = of(vec![1..=1, port + 1..=port + 1], vec![2..=2]);
            assert!(found.iter().all(|c| c.local != port && c.remote != port), "{found:?}");
            assert!(listening(Transport::Tcp).unwrap().unwrap().contains(&port));
            // Both ends have one of them.
            let both = of(vec![1..=7, port..=port], vec![port..=port, 9..=9]);
            assert_eq!(both.len(), 2, "{both:?}");
            drop(listener);
        }
    }

    #[test]
    fn a_filter_that_finds_no_room_is_replaced_by_looking_at_all() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let _client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut local: Vec<_> = (1..5000).map(|n| n * 4..=n * 4).collect();
        local.push(port..=port);
        let found = tcp(&Ports { local, remote: Vec::new() });
        assert!(found.iter().any(|c| c.local == port), "{found:?}");
        assert!(found.iter().all(|c| c.local == port || c.local % 4 == 0), "{found:?}");
    }

    #[test]
    fn of_udp_only_what_is_bound_to_a_peer_is_a_connection() {
        let server = UdpSocket::bind("[::1]:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let client = UdpSocket::bind("[::1]:0").unwrap();
        let ports = Ports { local: Vec::new(), remote: vec![port..=port] };
        let udp = || connections(Transport::Udp, &ports).unwrap().unwrap();
        assert_eq!(udp(), []);
        assert!(listening(Transport::Udp).unwrap().unwrap().contains(&port));
        client.connect(("::1", port)).unwrap();
        assert_eq!(udp().iter().map(|c| c.peer.to_string()).collect::<Vec<_>>(), ["::1"]);
    }
}
