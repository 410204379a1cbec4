//! The sockets of this machine, listed by sock_diag(7), which works in a sandbox that hides /proc. The kernel is sent
//! bytecode with the request, so that it answers with the few sockets that are meant and not with all of them.

pub(crate) mod message;

use std::ops::RangeInclusive;

use netlink_packet_sock_diag::inet::StateFlags;
use netlink_packet_sock_diag::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use nix::errno::Errno;

use crate::diag_bytecode;
use crate::error::Error;
use crate::netlink::NetlinkSocket;
use message::{Socket, SocketDump, socket};

/// Of which protocol the sockets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP. A socket that is bound to one peer by connect(2) counts as a connection.
    Udp,
}

/// Selects connections: those with a local port in one of the first ranges, or a remote port in one of the second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// Ports at this end.
    pub local: Vec<RangeInclusive<u16>>,
    /// Ports of the other end.
    pub remote: Vec<RangeInclusive<u16>>,
}

impl Ports {
    fn contain(&self, socket: &Socket) -> bool {
        let contain = |ranges: &[RangeInclusive<u16>], port| ranges.iter().any(|range| range.contains(&port));
        contain(&self.local, socket.local_port) || contain(&self.remote, socket.remote_port)
    }
}

/// The established connections with these ports, of IPv4 and IPv6. The inner error: this kernel cannot list them.
///
/// # Errors
/// When the kernel does not answer, or refuses for another reason.
pub fn connections(transport: Transport, ports: &Ports) -> Result<Result<Vec<Socket>, Errno>, Error> {
    let bytecode = diag_bytecode::by_ports(&ports.local, &ports.remote);
    let doing = "list the established connections";
    Ok(list(doing, transport, &StateFlags::ESTABLISHED, &bytecode)?.map(|mut sockets| {
        // Bytecode that is too long was not sent: then these are all connections.
        sockets.retain(|socket| ports.contain(socket));
        sockets
    }))
}

/// The sockets that wait for peers, of IPv4 and IPv6: listening ones of TCP, unconnected ones of UDP, whether or not
/// they are bound to a port. The inner error: this kernel cannot list them.
///
/// # Errors
/// When the kernel does not answer, or refuses for another reason.
pub fn listening_sockets(transport: Transport) -> Result<Result<Vec<Socket>, Errno>, Error> {
    let state = match transport {
        Transport::Tcp => StateFlags::LISTEN,
        // UDP has two states of TCP's: established when connected, else closed.
        Transport::Udp => StateFlags::CLOSE,
    };
    list("list the ports that something listens on", transport, &state, &[])
}

fn list(
    doing: &'static str,
    transport: Transport,
    states: &StateFlags,
    bytecode: &[u8],
) -> Result<Result<Vec<Socket>, Errno>, Error> {
    let mut sock_diag = match NetlinkSocket::open(NETLINK_SOCK_DIAG) {
        Err(error) if error.is_unsupported() => return Ok(Err(Errno::EPROTONOSUPPORT)),
        opened => opened?,
    };
    let protocol = match transport {
        Transport::Tcp => IPPROTO_TCP,
        Transport::Udp => IPPROTO_UDP,
    };
    let mut all = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let request = SocketDump::new(family, protocol, states.clone(), bytecode.to_vec());
        match sock_diag.dump_with(doing, &request, |_, body| socket(body))? {
            Ok(sockets) => all.extend(sockets),
            // The kernel lacks the module of the protocol (tcp_diag, udp_diag), or may not load it.
            Err(errno @ (Errno::ENOENT | Errno::EOPNOTSUPP | Errno::EINVAL | Errno::EPERM)) => {
                return Ok(Err(errno));
            }
            Err(errno) => return Err(Error::Refused { doing, errno }),
        }
    }
    Ok(Ok(all))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};

    use super::*;

    fn tcp(local: Vec<RangeInclusive<u16>>, remote: Vec<RangeInclusive<u16>>) -> Vec<Socket> {
        connections(Transport::Tcp, &Ports { local, remote }).unwrap().unwrap()
    }

    fn listens(transport: Transport, port: u16) -> bool {
        let sockets = listening_sockets(transport).unwrap().unwrap();
        sockets.iter().any(|socket| socket.local_port == port)
    }

    #[test]
    fn a_connection_is_found_by_either_of_its_ports_and_by_no_other() {
        let ports =
            |found: &[Socket]| found.iter().map(|s| (s.local_port, s.remote_port)).collect::<Vec<_>>();
        for address in ["127.0.0.1:0", "[::ffff:127.0.0.1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let port = listener.local_addr().unwrap().port();
            let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let theirs = client.local_addr().unwrap().port();
            let found = tcp(vec![1..=1, port..=port], Vec::new());
            assert_eq!(ports(&found), [(port, theirs)]);
            assert_eq!(found[0].remote_addr, IpAddr::from([127, 0, 0, 1]), "{address}");
            assert_eq!(ports(&tcp(vec![1..=1], vec![port..=port])), [(theirs, port)]);
            let found = tcp(vec![1..=1, port + 1..=port + 1], vec![2..=2]);
            assert!(found.iter().all(|s| s.local_port != port && s.remote_port != port), "{found:?}");
            assert!(listens(Transport::Tcp, port));
            // Both ends have one of them.
            let both = tcp(vec![1..=7, port..=port], vec![port..=port, 9..=9]);
            assert_eq!(both.len(), 2, "{both:?}");
            drop(listener);
        }
    }

    #[test]
    fn without_room_for_the_bytecode_all_are_listed_and_the_right_ones_returned() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let _client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut local: Vec<_> = (1..5000).map(|n| n * 4..=n * 4).collect();
        local.push(port..=port);
        let found = tcp(local, Vec::new());
        assert!(found.iter().any(|s| s.local_port == port), "{found:?}");
        assert!(found.iter().all(|s| s.local_port == port || s.local_port % 4 == 0), "{found:?}");
    }

    #[test]
    fn of_udp_only_a_socket_that_is_bound_to_a_peer_is_a_connection() {
        let server = UdpSocket::bind("[::1]:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let client = UdpSocket::bind("[::1]:0").unwrap();
        let ports = Ports { local: Vec::new(), remote: vec![port..=port] };
        let udp = || connections(Transport::Udp, &ports).unwrap().unwrap();
        assert_eq!(udp(), []);
        assert!(listens(Transport::Udp, port));
        client.connect(("::1", port)).unwrap();
        assert_eq!(udp().iter().map(|s| s.remote_addr.to_string()).collect::<Vec<_>>(), ["::1"]);
    }
}
