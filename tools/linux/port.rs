//! The addresses of psentry's netlink sockets. Notifications carry the address of the socket that made the change, so
//! that a running stage knows what another process of psentry did, and leaves it so.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use netlink_sys::{Socket, SocketAddr};

/// The upper half of psentry's addresses: "PS". The kernel itself gives out process ids, which end at 2^22, and
/// numbers from 2^32 downwards.
const RANGE: u32 = 0x5053_0000;

/// The lower half, which is chosen freely.
const FREE: u32 = 0xffff;

/// How many addresses are tried before any will do.
const TRIES: u32 = 64;

/// How far two processes with neighbouring ids begin apart.
const STRIDE: u32 = 16;

/// Whether a socket of psentry, of this process or another one, has that address.
#[must_use]
pub fn is_psentry(port: u32) -> bool {
    port & !FREE == RANGE
}

/// Gives a socket an address of psentry's and says which.
pub(crate) fn bind(socket: &mut Socket) -> io::Result<u32> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(STRIDE);
    for _ in 0..TRIES {
        let low = first.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed)) & FREE;
        match socket.bind(&SocketAddr::new(RANGE | low, 0)) {
            Ok(()) => return Ok(RANGE | low),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
    Ok(socket.bind_auto()?.port_number())
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_sys::protocols::NETLINK_ROUTE;

    #[test]
    fn every_socket_has_an_address_of_its_own_by_which_it_is_known() {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE).unwrap();
            let port = bind(&mut socket).unwrap();
            let mut told = SocketAddr::new(0, 0);
            socket.get_address(&mut told).unwrap();
            assert_eq!(told.port_number(), port);
            (socket, port)
        };
        let sockets = [open(), open(), open()];
        assert!(sockets.iter().all(|(_, port)| is_psentry(*port)));
        assert!(sockets[0].1 != sockets[1].1 && sockets[1].1 != sockets[2].1 && sockets[0].1 != sockets[2].1);
        for others in [0, 1, 4_194_304, u32::MAX - 4096, RANGE - 1, RANGE + FREE + 1] {
            assert!(!is_psentry(others), "{others}");
        }
    }
}
