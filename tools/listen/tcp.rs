//! A TCP decoy: accepts one connection at a time, and knows which of this machine's addresses and ports it reached,
//! and how it began.

use std::net::SocketAddr;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use psentry_records::Timestamp;
use socket2::{SockAddr, Socket};

use crate::handshake::SavedSyns;
use crate::mirage::is_mirage;
use crate::probe::{Contact, Transport};

/// How often a SYN-ACK is repeated, once after a second: the least that the kernel takes.
const SYN_ACK_REPEATS: u8 = 1;

/// A listening socket that is a decoy.
#[derive(Debug)]
pub(crate) struct TcpDecoy {
    pub(crate) socket: Socket,
    pub(crate) local: SocketAddr,
    pub(crate) syns: SavedSyns,
    pub(crate) mirage: bool,
}

impl TcpDecoy {
    /// Makes a decoy of a listening socket, whoever opened it.
    ///
    /// A SYN that nobody answers is sent two SYN-ACKs, where the kernel's own default is six: whoever forges it would have
    /// the decoy send six packets for one. An honest client whose two are lost repeats its SYN, and gets two more.
    ///
    /// Accepted connections inherit the linger of zero: close(2) then resets them, where a FIN would leave the
    /// kernel with an orphan of 2.4 KiB each, for a minute if the client likes.
    ///
    /// # Errors
    /// fcntl(2)'s and setsockopt(2)'s.
    pub(crate) fn new(socket: Socket, local: SocketAddr) -> std::io::Result<Self> {
        socket.set_nonblocking(true)?;
        socket.set_linger(Some(Duration::ZERO))?;
        // A socket that refuses it, as one of MPTCP may, is a decoy all the same.
        let _ = psentry_tcp_options::limit_syn_acks(&socket, SYN_ACK_REPEATS);
        let syns = SavedSyns::keep(&socket);
        let mirage = is_mirage(&socket);
        Ok(TcpDecoy { socket, local, syns, mirage })
    }

    /// Accepts the next connection.
    ///
    /// # Errors
    /// accept(2)'s; EAGAIN when none waits.
    pub(crate) fn accept(&self) -> Result<(Socket, Contact), Errno> {
        let (stream, peer) = self.socket.accept4(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC).map_err(errno)?;
        let at = Timestamp::now();
        // No TCP connection comes from an address that is no IP address.
        let source = peer.as_socket().ok_or(Errno::ECONNABORTED)?;
        // Of a socket on all addresses, and of a mirage, not what it is bound to.
        let reached = stream.local_addr().ok();
        let dest = reached.as_ref().and_then(SockAddr::as_socket).unwrap_or(self.local);
        let transport = Transport::Tcp(self.syns.read(&stream));
        Ok((stream, Contact { at, source, dest, transport, mirage: self.mirage }))
    }
}

/// The number of an error that a system call returned.
fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn decoy(addr: &str) -> TcpDecoy {
        let socket = Socket::from(TcpListener::bind(addr).unwrap());
        let local = socket.local_addr().unwrap().as_socket().unwrap();
        TcpDecoy::new(socket, local).unwrap()
    }

    #[test]
    fn a_blocking_listener_becomes_non_blocking() {
        assert_eq!(decoy("127.0.0.1:0").accept().unwrap_err(), Errno::EAGAIN);
    }

    #[test]
    fn whoever_opened_it_a_listener_repeats_its_syn_acks_once() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            assert_eq!(psentry_tcp_options::syn_ack_limit(&decoy(address).socket).unwrap(), 1, "{address}");
        }
    }

    #[test]
    fn accepted_connections_inherit_the_linger_and_do_not_block() {
        let decoy = decoy("127.0.0.1:0");
        let _client = TcpStream::connect(decoy.local).unwrap();
        let (stream, _) = decoy.accept().unwrap();
        assert_eq!(stream.linger().unwrap(), Some(Duration::ZERO));
        assert!(stream.nonblocking().unwrap());
    }

    #[test]
    fn on_all_addresses_the_one_that_was_reached_is_known() {
        let decoy = decoy("0.0.0.0:0");
        let client = TcpStream::connect(("127.0.0.2", decoy.local.port())).unwrap();
        let (_stream, contact) = decoy.accept().unwrap();
        assert_eq!(contact.dest, client.peer_addr().unwrap());
        assert_eq!(contact.source, client.local_addr().unwrap());
    }

    #[test]
    fn the_syn_of_an_ordinary_client_has_no_signature_and_is_no_cookie() {
        for (bound, reached) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("[::]:0", "127.0.0.1")] {
            let decoy = decoy(bound);
            // As if there could be no connection from before: then a SYN that was not kept would be a cookie.
            let decoy = TcpDecoy { syns: SavedSyns::keep(&decoy.socket), ..decoy };
            assert_eq!(decoy.syns, SavedSyns::Kept);
            let _client = TcpStream::connect((reached, decoy.local.port())).unwrap();
            let (_stream, contact) = decoy.accept().unwrap();
            assert_eq!(contact.transport, Transport::Tcp(crate::handshake::Handshake::default()), "{bound}");
        }
    }
}
