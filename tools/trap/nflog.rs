//! Packets that the rules log, from the kernel's NFLOG. The monitor opens the socket, which takes CAP_NET_ADMIN, and
//! binds it to a group; the worker inherits it and only reads.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::{NetlinkBuffer, NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::nflog::{ConfigCmd, ConfigFlags, ConfigMode, ConfigNla, config_request};
use netlink_packet_netfilter::{NetfilterMessage, NetfilterProtoFamily};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};

use crate::{TrapError, privdrop};

/// What waits for the worker at most. The kernel counts twice what it holds; 300,000 packets a second for a fifth of
/// a second.
const BUFFER: usize = 8 * 1024 * 1024;

/// How many bytes of a packet are copied at most: all headers. Whatever extension headers IPv6 has, they and the ports are
/// in one packet on the wire, also where it was fragmented (RFC 8200, 4.5). The kernel takes a page for each packet anyhow.
pub(crate) const COPIED: u32 = 1500;

/// One datagram: with a threshold of one packet, that packet and its envelope.
const DATAGRAM: usize = 16 * 1024;

/// Opens a socket to which the kernel sends what is logged to `group`, one packet at a time, numbered. What finds no
/// room is dropped, and the numbers show it.
///
/// # Errors
/// The group is taken, a right lacks, or the kernel has no NFLOG.
pub(crate) fn open(group: u16) -> Result<Socket, TrapError> {
    let system = |error: io::Error| match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EPERM) => TrapError::NotPermitted,
        Some(Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT) => TrapError::NoNflog,
        _ => TrapError::System("open a netlink socket", error),
    };
    let mut socket = Socket::new(NETLINK_NETFILTER).map_err(system)?;
    socket.bind_auto().map_err(system)?;
    // Once connected, nobody but the kernel is heard.
    socket.connect(&SocketAddr::new(0, 0)).map_err(system)?;
    // In a container root may not have more than the administrator allows everybody; what is lost sooner is counted.
    if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).is_err() {
        let _ = setsockopt(&socket, sockopt::RcvBuf, &BUFFER);
    }
    socket.set_no_enobufs(true).map_err(system)?;
    for attributes in [
        vec![ConfigCmd::Bind.into()],
        vec![ConfigMode::new_packet(COPIED).into(), ConfigNla::QThresh(1), ConfigFlags::SEQ.into()],
    ] {
        configure(&socket, group, attributes)?;
    }
    Ok(socket)
}

/// Has the kernel configure the group.
fn configure(socket: &Socket, group: u16, attributes: Vec<ConfigNla>) -> Result<(), TrapError> {
    let request = config_request(NetfilterProtoFamily::Unspec, group, attributes);
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    let io = |error| TrapError::System("configure NFLOG", error);
    socket.send(&bytes, 0).map_err(io)?;
    // The kernel answers before send(2) returns. Packets may come before the answer to the second request.
    loop {
        let mut answer = Vec::with_capacity(DATAGRAM);
        socket.recv(&mut answer, MsgFlags::MSG_DONTWAIT.bits()).map_err(io)?;
        let Ok(message) = NetlinkMessage::<NetfilterMessage>::deserialize(&answer) else { continue };
        let NetlinkPayload::Error(error) = message.payload else { continue };
        return match error.code.map_or(0, |code| -code.get()) {
            0 => Ok(()),
            code => Err(match Errno::from_raw(code) {
                // The kernel's word for both.
                Errno::EPERM if privdrop::has_net_admin() => TrapError::GroupTaken(group),
                Errno::EPERM => TrapError::NotPermitted,
                Errno::EBUSY => TrapError::GroupTaken(group),
                Errno::EINVAL | Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT => TrapError::NoNflog,
                errno => TrapError::System("configure NFLOG", errno.into()),
            }),
        };
    }
}

/// The reading end, in the worker.
pub(crate) struct Log {
    socket: OwnedFd,
    datagram: Vec<u8>,
}

impl Log {
    /// From the socket that was inherited.
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Log { socket, datagram: vec![0; DATAGRAM] }
    }

    /// The socket, to wait for it.
    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Hands each message that waits, at most `most` datagrams of them, to `each`: its payload without the header.
    /// Says whether more may wait.
    ///
    /// # Errors
    /// What recv(2) says.
    pub(crate) fn read(&mut self, most: usize, mut each: impl FnMut(&[u8])) -> Result<bool, TrapError> {
        for _ in 0..most {
            let got = match recv(self.socket.as_raw_fd(), &mut self.datagram, MsgFlags::MSG_DONTWAIT) {
                Ok(got) => got,
                Err(Errno::EAGAIN) => return Ok(false),
                // Dropped packets show in the numbers.
                Err(Errno::EINTR | Errno::ENOBUFS) => continue,
                Err(errno) => return Err(TrapError::System("read what the kernel logs", errno.into())),
            };
            let mut rest = self.datagram.get(..got).unwrap_or_default();
            while let Some((payload, after)) = split(rest) {
                each(payload);
                rest = after;
            }
        }
        Ok(true)
    }
}

/// The length of a message's header (netlink(7)).
const HEADER: usize = 16;

/// The type of NFLOG's packets: NFNL_SUBSYS_ULOG and NFULNL_MSG_PACKET (linux/netfilter/nfnetlink_log.h).
const PACKET: u16 = 4 << 8;

/// The first packet's message and what comes after it; other messages are passed over.
fn split(mut datagram: &[u8]) -> Option<(&[u8], &[u8])> {
    loop {
        let buffer = NetlinkBuffer::new_checked(datagram).ok()?;
        let length = buffer.length() as usize;
        let payload = datagram.get(HEADER..length)?;
        let after = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        if buffer.message_type() == PACKET {
            return Some((payload, after));
        }
        datagram = after;
    }
}
