//! The SYN that a TCP connection began with, as the kernel saved it: the socket options TCP_SAVE_SYN and TCP_SAVED_SYN
//! (linux/tcp.h).
//!
//! nix, socket2 and rustix wrap neither, so this crate does, and does nothing else; the SYN is parsed by
//! psentry-packet. It is the only crate in which unsafe code is allowed: the two functions at the end.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc::{self, c_int, socklen_t};

/// Sets TCP_SAVE_SYN: the kernel saves the SYN of each connection that `listener` will accept. Returns whether it was
/// set before: the option belongs to the socket, which systemd may keep open while the process is restarted.
///
/// # Errors
/// The error of getsockopt(2) or setsockopt(2), as when the socket is not one of TCP.
pub fn enable(listener: impl AsFd) -> io::Result<bool> {
    let listener = listener.as_fd();
    let mut value = [0; size_of::<c_int>()];
    getsockopt(listener, libc::TCP_SAVE_SYN, &mut value)?;
    let was_set = c_int::from_ne_bytes(value) != 0;
    if !was_set {
        setsockopt(listener, libc::TCP_SAVE_SYN, 1)?;
    }
    Ok(was_set)
}

/// Reads TCP_SAVED_SYN into `buffer`: the SYN that `connection` began with, from its IP header to the end of its TCP
/// header. The kernel then frees it, so a second call returns none. `None`: the kernel has none. It saves none when it
/// answers by a SYN cookie, nor when it is short of memory.
///
/// # Errors
/// The error of getsockopt(2): EINVAL when the headers are longer than `buffer`, which then holds nothing. The kernel
/// still has the SYN.
pub fn take(connection: impl AsFd, buffer: &mut [u8]) -> io::Result<Option<&[u8]>> {
    let length = getsockopt(connection.as_fd(), libc::TCP_SAVED_SYN, buffer)?;
    Ok(buffer.get(..length).filter(|syn| !syn.is_empty()))
}

/// getsockopt(2) at the level of TCP; returns how many bytes of `into` the kernel filled.
fn getsockopt(socket: BorrowedFd<'_>, option: c_int, into: &mut [u8]) -> io::Result<usize> {
    let mut length = socklen_t::try_from(into.len()).unwrap_or(socklen_t::MAX);
    // SAFETY: `socket` is an open descriptor for as long as it is borrowed. The kernel writes at most `length` bytes
    // to `into`, which is that long or longer and borrowed mutably, and the number of them to `length`; both outlive
    // the call, and it keeps no pointer to either.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, option, into.as_mut_ptr().cast(), &mut length)
    };
    Errno::result(result)?;
    Ok(usize::try_from(length).unwrap_or(0))
}

/// setsockopt(2) of an integer at the level of TCP.
fn setsockopt(socket: BorrowedFd<'_>, option: c_int, value: c_int) -> io::Result<()> {
    let length = size_of::<c_int>() as socklen_t;
    // SAFETY: `socket` is an open descriptor for as long as it is borrowed. The kernel reads `length` bytes, which is
    // the size of `value`; that outlives the call, which keeps no pointer to it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            std::ptr::from_ref(&value).cast(),
            length,
        )
    };
    Errno::result(result)?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    fn connection(listener: &TcpListener) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn the_syn_is_saved_from_then_on_and_taken_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut buffer = [0; 120];
        let (_client, before) = connection(&listener);
        assert!(!enable(&listener).unwrap());
        assert!(enable(&listener).unwrap(), "it was set by the first call");
        assert_eq!(take(&before, &mut buffer).unwrap(), None);
        let (client, after) = connection(&listener);
        let syn = take(&after, &mut buffer).unwrap().unwrap().to_vec();
        // An IPv4 header without options, of TCP; then the client's port.
        assert_eq!((syn[0], syn[9]), (0x45, 6));
        assert_eq!(syn[20..22], client.local_addr().unwrap().port().to_be_bytes());
        assert_eq!(take(&after, &mut buffer).unwrap(), None);
    }

    #[test]
    fn headers_longer_than_the_buffer_are_an_error_and_not_none() {
        let listener = TcpListener::bind("[::1]:0").unwrap();
        enable(&listener).unwrap();
        let (_client, connection) = connection(&listener);
        let error = take(&connection, &mut [0; 39]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        assert!(take(&connection, &mut [0; 120]).unwrap().is_some());
    }

    #[test]
    fn no_other_socket_will_do() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(enable(&udp).is_err());
        assert!(take(&udp, &mut [0; 120]).is_err());
    }
}
