//! Port ids of netlink sockets (`nl_pid` of netlink(7)), which are no TCP ports. psentry binds its sockets to port ids
//! of its own range. Notifications carry the port id of the socket that made the change, so a running stage recognises
//! a change that another psentry process made, and does not undo it.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use netlink_sys::{Socket, SocketAddr};

/// The upper half of psentry's port ids: "PS". The kernel's own choices for other sockets are process ids, which end at
/// 2^22, and numbers from 2^32 downwards.
const RANGE: u32 = 0x5053_0000;

/// The bits of the lower half, which tell psentry's sockets from each other.
const LOWER_HALF: u32 = 0xffff;

/// How many port ids are tried before the kernel chooses one. Changes by that socket then count as somebody else's.
const TRIES: u32 = 64;

/// How far apart two processes with consecutive process ids begin to count.
const STRIDE: u32 = 16;

/// Whether a port id belongs to a socket of psentry, of this process or of another one.
#[must_use]
pub fn is_psentry_portid(portid: u32) -> bool {
    portid & !LOWER_HALF == RANGE
}

/// Binds a socket to a free port id of psentry and returns that.
pub(crate) fn bind(socket: &mut Socket) -> io::Result<u32> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(STRIDE);
    for _ in 0..TRIES {
        let low = first.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed)) & LOWER_HALF;
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
    fn every_socket_has_a_port_id_of_its_own_that_is_recognised() {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE).unwrap();
            let portid = bind(&mut socket).unwrap();
            let mut bound = SocketAddr::new(0, 0);
            socket.get_address(&mut bound).unwrap();
            assert_eq!(bound.port_number(), portid);
            (socket, portid)
        };
        let sockets = [open(), open(), open()];
        assert!(sockets.iter().all(|(_, portid)| is_psentry_portid(*portid)));
        assert!(sockets[0].1 != sockets[1].1 && sockets[1].1 != sockets[2].1 && sockets[0].1 != sockets[2].1);
        for others in [0, 1, 4_194_304, u32::MAX - 4096, RANGE - 1, RANGE + LOWER_HALF + 1] {
            assert!(!is_psentry_portid(others), "{others}");
        }
    }
}
