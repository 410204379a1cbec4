//! On which ports something listens, whatever its address: asked of the kernel, which knows it without /proc. A
//! service that listens on IPv4 alone is no trap on IPv6 either, because clients try both.

use std::collections::BTreeSet;

use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags, nlas::Nla};
use netlink_packet_sock_diag::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP, SockDiagMessage};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use psentry_linux::{Error, Link};
use psentry_records::DECOY_MARK;

/// The ports of sockets that wait for strangers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listening {
    /// TCP.
    pub(crate) tcp: BTreeSet<u16>,
    /// UDP.
    pub(crate) udp: BTreeSet<u16>,
}

/// Asks the kernel. Decoys are left out: they belong to psentry-listen, and are no service.
///
/// # Errors
/// When the kernel does not answer. One without the module for a protocol has a list without it.
pub(crate) fn look() -> Result<Listening, Error> {
    let mut link = Link::open(NETLINK_SOCK_DIAG)?;
    let mut listening = Listening::default();
    // An unconnected UDP socket is "closed".
    for (protocol, state, into) in [
        (IPPROTO_TCP, StateFlags::LISTEN, &mut listening.tcp),
        (IPPROTO_UDP, StateFlags::CLOSE, &mut listening.udp),
    ] {
        for family in [AF_INET, AF_INET6] {
            let request = InetRequest {
                family,
                protocol,
                extensions: ExtensionFlags::empty(),
                states: state.clone(),
                socket_id: if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() },
            };
            let doing = "list the ports that something listens on";
            let question = SockDiagMessage::InetRequest(request);
            into.extend(link.dump(doing, &question)?.unwrap_or_default().iter().filter_map(service));
        }
    }
    Ok(listening)
}

/// The port of a socket that is no decoy.
fn service(message: &SockDiagMessage) -> Option<u16> {
    let SockDiagMessage::InetResponse(socket) = message else { return None };
    let decoy = socket.nlas.contains(&Nla::Mark(DECOY_MARK));
    (!decoy).then_some(socket.header.socket_id.source_port).filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn a_listener_is_found_whatever_its_address() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let listening = look().unwrap();
        assert!(listening.tcp.contains(&tcp.local_addr().unwrap().port()));
        assert!(listening.udp.contains(&udp.local_addr().unwrap().port()));
    }
}
