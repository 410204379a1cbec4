//! On which ports something listens, whatever its address: asked of the kernel, which knows it without /proc. A
//! service that listens on IPv4 alone is no trap on IPv6 either, because clients try both.

use std::collections::BTreeSet;

use nix::errno::Errno;
use psentry_linux::{Error, Socket, Transport, listening_sockets};
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
/// When the kernel does not answer, or has no sock_diag(7). One without the module for a protocol has a list without it.
pub(crate) fn look() -> Result<Listening, Error> {
    Ok(Listening { tcp: services(Transport::Tcp)?, udp: services(Transport::Udp)? })
}

fn services(transport: Transport) -> Result<BTreeSet<u16>, Error> {
    match listening_sockets(transport)? {
        Ok(sockets) => Ok(sockets.iter().filter_map(service).collect()),
        Err(errno @ Errno::EPROTONOSUPPORT) => {
            Err(Error::Refused { doing: "list the ports that something listens on", errno })
        }
        Err(_) => Ok(BTreeSet::new()),
    }
}

/// The port of a socket that is bound to one and is no decoy.
fn service(socket: &Socket) -> Option<u16> {
    (socket.mark != Some(DECOY_MARK)).then_some(socket.local_port).filter(|port| *port != 0)
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
