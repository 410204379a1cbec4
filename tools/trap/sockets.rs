//! On which ports something listens, whatever its address: asked of the kernel, which knows it without /proc. A
//! service that listens on IPv4 alone is no trap on IPv6 either, because clients try both.

use std::collections::BTreeSet;

use nix::errno::Errno;
use psentry_linux::{Error, Socket, Transport, listening_sockets};
use psentry_records::DECOY_MARK;

/// Ports of TCP and of UDP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listening {
    /// TCP.
    pub(crate) tcp: BTreeSet<u16>,
    /// UDP.
    pub(crate) udp: BTreeSet<u16>,
}

/// The ports of sockets that wait for strangers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sockets {
    /// All of them.
    pub(crate) listening: Listening,
    /// Those at which other machines can ask: a resolver that listens on loopback alone has no clients there.
    pub(crate) reachable: Listening,
}

/// Asks the kernel. Decoys are left out: they belong to psentry-listen, and are no service.
///
/// # Errors
/// When the kernel does not answer, or has no sock_diag(7). One without the module for a protocol has a list without it.
pub(crate) fn look() -> Result<Sockets, Error> {
    let (tcp, udp) = (services(Transport::Tcp)?, services(Transport::Udp)?);
    let ports = |sockets: &[Socket], reachable: bool| {
        let those = sockets.iter().filter(|socket| !reachable || !socket.local_addr.is_loopback());
        those.map(|socket| socket.local_port).collect()
    };
    let of = |reachable| Listening { tcp: ports(&tcp, reachable), udp: ports(&udp, reachable) };
    Ok(Sockets { listening: of(false), reachable: of(true) })
}

/// The sockets that are bound to a port and are no decoys.
fn services(transport: Transport) -> Result<Vec<Socket>, Error> {
    match listening_sockets(transport)? {
        Ok(mut sockets) => {
            sockets.retain(|socket| socket.mark != Some(DECOY_MARK) && socket.local_port != 0);
            Ok(sockets)
        }
        Err(errno @ Errno::EPROTONOSUPPORT) => {
            Err(Error::Refused { doing: "list the ports that something listens on", errno })
        }
        Err(_) => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn a_listener_is_found_whatever_its_address() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let everywhere = TcpListener::bind("[::]:0").unwrap();
        let sockets = look().unwrap();
        let port = tcp.local_addr().unwrap().port();
        assert!(sockets.listening.tcp.contains(&port) && !sockets.reachable.tcp.contains(&port));
        assert!(sockets.listening.udp.contains(&udp.local_addr().unwrap().port()));
        assert!(sockets.reachable.tcp.contains(&everywhere.local_addr().unwrap().port()));
    }
}
