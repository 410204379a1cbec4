//! On which ports something listens for other machines, at whatever address: asked of the kernel, which knows it without
//! /proc. A service that listens on IPv4 alone is no trap on IPv6 either, because clients try both. One that listens on
//! loopback alone has no clients elsewhere, and its port is closed to them as any other.

use std::collections::BTreeSet;
use std::net::IpAddr;

use nix::errno::Errno;
use psentry_linux::{Error, Ports, Socket, Transport, connections, listening_sockets};
use psentry_ports::Service;
use psentry_records::{DECOY_MARK, Proto, canonical};

use crate::ports::Ranges;

/// A connection of another machine's: its address and port, and the port here.
pub(crate) type Connection = (IpAddr, u16, u16);

/// Ports of TCP and of UDP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listening {
    /// TCP.
    pub(crate) tcp: BTreeSet<u16>,
    /// UDP.
    pub(crate) udp: BTreeSet<u16>,
}

impl Listening {
    /// Each of them.
    pub(crate) fn services(&self) -> BTreeSet<Service> {
        let tcp = self.tcp.iter().map(|port| Service { proto: Proto::Tcp, port: *port });
        tcp.chain(self.udp.iter().map(|port| Service { proto: Proto::Udp, port: *port })).collect()
    }

    /// Those of both.
    pub(crate) fn and(&self, other: &Listening) -> Listening {
        Listening {
            tcp: self.tcp.union(&other.tcp).copied().collect(),
            udp: self.udp.union(&other.udp).copied().collect(),
        }
    }
}

/// Asks the kernel. Decoys are left out: they belong to psentry-listen, and are no service.
///
/// # Errors
/// When the kernel does not answer, or has no sock_diag(7). One without the module for a protocol has a list without it.
pub(crate) fn look() -> Result<Listening, Error> {
    Ok(Listening { tcp: served(Transport::Tcp)?, udp: served(Transport::Udp)? })
}

/// Whoever is connected to one of these TCP ports; nobody where the kernel cannot list that.
///
/// # Errors
/// When the kernel does not answer.
pub(crate) fn connected(ports: &Ranges) -> Result<BTreeSet<Connection>, Error> {
    let local = ports.list().iter().map(|(first, last)| *first..=*last).collect();
    let found = connections(Transport::Tcp, &Ports { local, remote: Vec::new() })?.unwrap_or_default();
    let connection = |socket: &Socket| (canonical(socket.remote_addr), socket.remote_port, socket.local_port);
    Ok(found.iter().map(connection).filter(|(addr, ..)| !addr.is_loopback()).collect())
}

/// The ports of the sockets that other machines reach and that are no decoys.
fn served(transport: Transport) -> Result<BTreeSet<u16>, Error> {
    match listening_sockets(transport)? {
        Ok(sockets) => {
            let served = sockets.iter().filter(|socket| {
                socket.mark != Some(DECOY_MARK)
                    && socket.local_port != 0
                    && !canonical(socket.local_addr).is_loopback()
            });
            Ok(served.map(|socket| socket.local_port).collect())
        }
        Err(errno @ Errno::EPROTONOSUPPORT) => {
            Err(Error::Refused { doing: "list the ports that something listens on", errno })
        }
        Err(_) => Ok(BTreeSet::new()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn what_listens_on_loopback_alone_is_no_service_of_this_machine() {
        let everywhere = (TcpListener::bind("[::]:0").unwrap(), UdpSocket::bind("0.0.0.0:0").unwrap());
        let loopback =
            ["127.0.0.1:0", "[::1]:0", "[::ffff:127.0.0.1]:0"].map(|at| TcpListener::bind(at).unwrap());
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let found = look().unwrap();
        assert!(found.tcp.contains(&everywhere.0.local_addr().unwrap().port()));
        assert!(found.udp.contains(&everywhere.1.local_addr().unwrap().port()));
        assert!(loopback.iter().all(|socket| !found.tcp.contains(&socket.local_addr().unwrap().port())));
        assert!(!found.udp.contains(&udp.local_addr().unwrap().port()));
    }
}
