//! The mirage: one socket that receives connections to every port. The kernel's `tproxy` hands it packets to ports that no service
//! has, unchanged, so that their own destination is still there to be read. What such a socket has and no other needs
//! is `IP_TRANSPARENT`: by that it is known, whoever opened it.

use std::io;

use socket2::{Domain, Socket};

/// Whether `socket` takes what is addressed to others. One option serves both versions of IP.
pub(crate) fn is_mirage(socket: &Socket) -> bool {
    socket.ip_transparent_v4().unwrap_or(false)
}

/// Makes a mirage of a socket that is not bound yet.
///
/// # Errors
/// setsockopt(2)'s: EPERM without CAP_NET_RAW or CAP_NET_ADMIN.
pub(crate) fn make(socket: &Socket, domain: Domain) -> io::Result<()> {
    if domain == Domain::IPV6 {
        socket.set_ip_transparent_v6(true)
    } else {
        socket.set_ip_transparent_v4(true)
    }
}

#[cfg(test)]
mod tests {
    use socket2::Type;

    use super::*;

    #[test]
    fn an_ordinary_socket_is_none() {
        for domain in [Domain::IPV4, Domain::IPV6] {
            for kind in [Type::STREAM, Type::DGRAM] {
                assert!(!is_mirage(&Socket::new(domain, kind, None).unwrap()));
            }
        }
    }

    /// Where this may not be done, tests/listen/mirage.rs still does it, in a namespace.
    #[test]
    fn what_was_made_one_is_one() {
        for domain in [Domain::IPV4, Domain::IPV6] {
            for kind in [Type::STREAM, Type::DGRAM] {
                let socket = Socket::new(domain, kind, None).unwrap();
                let made = make(&socket, domain);
                assert_eq!(is_mirage(&socket), made.is_ok(), "{made:?}");
            }
        }
    }
}
