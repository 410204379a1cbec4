//! Socket options of a listening TCP socket that nix, socket2 and rustix do not wrap (tcp(7), linux/tcp.h): TCP_SAVE_SYN
//! and TCP_SAVED_SYN, by which the kernel keeps the SYN that a connection began with, and TCP_SYNCNT, how often it repeats
//! a SYN-ACK.
//!
//! It does nothing else; the SYN is parsed by psentry-packet. It is the only crate in which unsafe code is allowed: the two
//! functions at the end.

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
pub fn save_syns(listener: impl AsFd) -> io::Result<bool> {
    let listener = listener.as_fd();
    let was_set = getsockopt_int(listener, libc::TCP_SAVE_SYN)? != 0;
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
pub fn take_saved_syn(connection: impl AsFd, buffer: &mut [u8]) -> io::Result<Option<&[u8]>> {
    let length = getsockopt(connection.as_fd(), libc::TCP_SAVED_SYN, buffer)?;
    Ok(buffer.get(..length).filter(|syn| !syn.is_empty()))
}

/// Sets TCP_SYNCNT: the kernel repeats a SYN-ACK that nobody answers at most so often, from 1 to 255 times, where it would
/// do it as often as net.ipv4.tcp_synack_retries says. It forgets the SYN when the next repetition would be due.
///
/// # Errors
/// setsockopt(2)'s, as when `repeats` is 0, or when the socket is not one of TCP.
pub fn limit_syn_acks(listener: impl AsFd, repeats: u8) -> io::Result<()> {
    setsockopt(listener.as_fd(), libc::TCP_SYNCNT, repeats.into())
}

/// What [`limit_syn_acks`] set; 0: nothing.
///
/// # Errors
/// getsockopt(2)'s, as when the socket is not one of TCP.
pub fn syn_ack_limit(listener: impl AsFd) -> io::Result<c_int> {
    getsockopt_int(listener.as_fd(), libc::TCP_SYNCNT)
}

/// getsockopt(2) of an integer at the level of TCP.
fn getsockopt_int(socket: BorrowedFd<'_>, option: c_int) -> io::Result<c_int> {
    let mut value = [0; size_of::<c_int>()];
    getsockopt(socket, option, &mut value)?;
    Ok(c_int::from_ne_bytes(value))
}

/// getsockopt(2) at the level of TCP, for options that no crate wraps; returns how many bytes of `into` the kernel filled.
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

/// setsockopt(2) of an integer at the level of TCP, for options that no crate wraps.
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
        assert!(!save_syns(&listener).unwrap());
        assert!(save_syns(&listener).unwrap(), "it was set by the first call");
        assert_eq!(take_saved_syn(&before, &mut buffer).unwrap(), None);
        let (client, after) = connection(&listener);
        let syn = take_saved_syn(&after, &mut buffer).unwrap().unwrap().to_vec();
        // An IPv4 header without options, of TCP; then the client's port.
        assert_eq!((syn[0], syn[9]), (0x45, 6));
        assert_eq!(syn[20..22], client.local_addr().unwrap().port().to_be_bytes());
        assert_eq!(take_saved_syn(&after, &mut buffer).unwrap(), None);
    }

    #[test]
    fn headers_longer_than_the_buffer_are_an_error_and_not_none() {
        let listener = TcpListener::bind("[::1]:0").unwrap();
        save_syns(&listener).unwrap();
        let (_client, connection) = connection(&listener);
        let error = take_saved_syn(&connection, &mut [0; 39]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        assert!(take_saved_syn(&connection, &mut [0; 120]).unwrap().is_some());
    }

    #[test]
    fn a_limit_of_syn_acks_is_kept_by_the_listener() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            limit_syn_acks(&listener, 1).unwrap();
            assert_eq!(syn_ack_limit(&listener).unwrap(), 1);
            assert!(limit_syn_acks(&listener, 0).is_err());
        }
    }

    #[test]
    fn no_other_socket_will_do() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(limit_syn_acks(&udp, 1).is_err() && syn_ack_limit(&udp).is_err());
        assert!(save_syns(&udp).is_err());
        assert!(take_saved_syn(&udp, &mut [0; 120]).is_err());
    }
}
