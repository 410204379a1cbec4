//! A netlink(7) socket for requests: each is sent, and its acknowledgement awaited, within a time limit. It knows only
//! the netlink header; the body of a message belongs to the caller. Multicast notifications are in
//! `netlink_monitor.rs`.

mod dump;

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, getsockopt, setsockopt, sockopt};

use crate::error::Error;
use crate::netlink_portid;

/// How long to wait for the kernel. It answers within microseconds, or after a long commit within a second.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Room for one datagram of answers, in bytes. The kernel sends at most 32 KiB at once.
const DATAGRAM: usize = 64 * 1024;

/// SO_SNDBUF in bytes, for one batch of requests. Without CAP_NET_ADMIN the limit net.core.wmem_max holds, some 200
/// KiB.
const SEND_BUFFER: usize = 4 * 1024 * 1024;

/// SO_RCVBUF in bytes, for the acknowledgements of one batch. The limit is net.core.rmem_max, again some 200 KiB.
const RECEIVE_BUFFER: usize = 1024 * 1024;

/// How much of SO_RCVBUF one acknowledgement takes, in bytes: some 800 were measured, which includes the kernel's
/// bookkeeping.
const ACK_COST: usize = 1024;

/// The length of `struct nlmsghdr` (netlink(7)).
const HEADER_LEN: usize = 16;

/// A socket that is connected to one netlink protocol of the kernel. It is named so because a "link" is a network
/// interface to rtnetlink(7).
pub struct NetlinkSocket {
    socket: Socket,
    portid: u32,
    /// The sequence number of the message that was sent last.
    sequence: u32,
    /// The messages that the next send(2) takes, each padded to four bytes.
    outgoing: Vec<u8>,
    /// The datagram that was received last.
    incoming: Vec<u8>,
}

/// A request within a batch.
pub struct Request<M> {
    /// The body of the message; its type follows from it.
    pub message: M,
    /// Flags of the header besides NLM_F_REQUEST and NLM_F_ACK (netlink(7)).
    pub flags: u16,
    /// Whether the kernel is to acknowledge it (NLM_F_ACK). Errors come back either way.
    pub acked: bool,
}

impl NetlinkSocket {
    /// Opens a socket of `protocol`, one of `netlink_sys::protocols`, with a port id of psentry.
    ///
    /// # Errors
    /// [`Error::System`] when the kernel lacks the protocol, or a sandbox forbids AF_NETLINK.
    pub fn open(protocol: isize) -> Result<Self, Error> {
        let open = || -> io::Result<(Socket, u32)> {
            let mut socket = Socket::new(protocol)?;
            let portid = netlink_portid::bind(&mut socket)?;
            // A connected socket drops what other processes send to it: only the kernel (port id 0) is received.
            socket.connect(&SocketAddr::new(0, 0))?;
            // An acknowledgement then does not repeat the request, which would need room for it.
            socket.set_cap_ack(true)?;
            // A smaller buffer only means that a large batch is refused and tried in pieces.
            if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
                let _ = setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER);
            }
            if setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER).is_err() {
                let _ = setsockopt(&socket, sockopt::SndBuf, &SEND_BUFFER);
            }
            Ok((socket, portid))
        };
        let (socket, portid) = open().map_err(Error::system("open a netlink socket"))?;
        let incoming = Vec::with_capacity(DATAGRAM);
        Ok(NetlinkSocket { socket, portid, sequence: 0, outgoing: Vec::new(), incoming })
    }

    /// Its port id. The kernel's notifications of a change carry the port id of the socket that asked for it.
    #[must_use]
    pub fn portid(&self) -> u32 {
        self.portid
    }

    /// How many bytes of requests one batch may have.
    #[must_use]
    pub fn send_capacity(&self) -> usize {
        // netlink_sendmsg() refuses datagrams that are longer than SO_SNDBUF less 32 bytes.
        getsockopt(&self.socket, sockopt::SndBuf).map_or(0, |room| room.saturating_sub(32))
    }

    /// How many acknowledged requests one batch may have. The kernel carries out what goes beyond that, but drops the
    /// acknowledgements, because SO_RCVBUF is full (ENOBUFS).
    #[must_use]
    pub fn ack_capacity(&self) -> usize {
        getsockopt(&self.socket, sockopt::RcvBuf).map_or(0, |room| room / ACK_COST).max(1)
    }

    /// Sets NETLINK_GET_STRICT_CHK, with which rtnetlink filters a dump by the fields of the request. Kernels before
    /// 4.20 lack it and send more than was asked for, so callers filter too.
    pub fn set_strict_check(&mut self) {
        let _ = self.socket.set_netlink_get_strict_chk(true);
    }

    /// Sends requests as one datagram and collects the kernel's answer to each, in their order. A request without
    /// acknowledgement has `Ok` unless the kernel answered with an error. `doing` is for error messages: what was asked
    /// for, as a verb and its object.
    ///
    /// # Errors
    /// When the datagram cannot be sent, or an answer does not come in time. The kernel's refusals are the inner
    /// errors.
    pub fn batch<M: NetlinkSerializable>(
        &mut self,
        doing: &'static str,
        requests: Vec<Request<M>>,
    ) -> Result<Vec<Result<(), Errno>>, Error> {
        let codes = self.batch_codes(doing, requests)?;
        Ok(codes
            .into_iter()
            .map(|code| if code == 0 { Ok(()) } else { Err(Errno::from_raw(code)) })
            .collect())
    }

    /// As [`batch`](Self::batch), for a subsystem with error numbers of its own beyond errno, such as ipset: 0 or the
    /// positive number of the error.
    ///
    /// # Errors
    /// As those of `batch`.
    pub fn batch_codes<M: NetlinkSerializable>(
        &mut self,
        doing: &'static str,
        requests: Vec<Request<M>>,
    ) -> Result<Vec<i32>, Error> {
        let first = self.sequence.wrapping_add(1);
        let mut answers: Vec<Option<i32>> =
            requests.iter().map(|request| if request.acked { None } else { Some(0) }).collect();
        self.outgoing.clear();
        for request in requests {
            let ack = if request.acked { NLM_F_ACK } else { 0 };
            self.append(NetlinkPayload::InnerMessage(request.message), request.flags | ack | NLM_F_REQUEST);
        }
        self.send(doing)?;
        let started = Instant::now();
        while answers.iter().any(Option::is_none) {
            self.receive(doing, started)?;
            let mut rest = self.incoming.as_slice();
            while let Some((header, payload, after)) = split_message(rest) {
                rest = after;
                let at = header.sequence_number.wrapping_sub(first) as usize;
                if header.message_type != netlink_packet_core::NLMSG_ERROR {
                    continue;
                }
                let Some(answer) = answers.get_mut(at) else { continue };
                let unacked = answer.is_some();
                let code = error_code(payload);
                *answer = Some(code);
                if unacked && code != 0 {
                    // nfnetlink reports what is wrong with a whole transaction on its NFNL_MSG_BATCH_BEGIN, for which
                    // no acknowledgement was asked. Nothing inside was carried out, and no other answer follows.
                    return Ok(vec![code; answers.len()]);
                }
            }
        }
        Ok(answers.into_iter().map(|answer| answer.unwrap_or(Errno::ENODATA as i32)).collect())
    }

    /// Sends one request and waits for its acknowledgement.
    ///
    /// # Errors
    /// As those of [`batch`](Self::batch).
    pub fn request<M: NetlinkSerializable>(
        &mut self,
        doing: &'static str,
        message: M,
        flags: u16,
    ) -> Result<Result<(), Errno>, Error> {
        let answers = self.batch(doing, vec![Request { message, flags, acked: true }])?;
        Ok(answers.into_iter().next().unwrap_or(Err(Errno::ENODATA)))
    }

    /// Appends a message to the datagram that is sent next.
    fn append<M: NetlinkSerializable>(&mut self, payload: NetlinkPayload<M>, flags: u16) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, payload);
        message.finalize();
        let at = self.outgoing.len();
        // Every message begins at a multiple of four bytes.
        self.outgoing.resize(at + message.buffer_len().next_multiple_of(4), 0);
        if let Some(room) = self.outgoing.get_mut(at..) {
            message.serialize(room);
        }
    }

    fn send(&mut self, doing: &'static str) -> Result<(), Error> {
        match self.socket.send(&self.outgoing, 0) {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::Netlink { doing, why: error.to_string() }),
        }
    }

    /// Receives one datagram into `incoming`. The kernel answers most requests before send(2) returns, so recv(2) is
    /// tried before poll(2): one system call less for each request.
    fn receive(&mut self, doing: &'static str, started: Instant) -> Result<(), Error> {
        loop {
            self.incoming.clear();
            match self.socket.recv(&mut self.incoming, MsgFlags::MSG_DONTWAIT.bits()) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(Error::Netlink { doing, why: error.to_string() }),
            }
            let left = TIMEOUT.saturating_sub(started.elapsed());
            if left.is_zero() {
                let why = format!("nothing came within {} s", TIMEOUT.as_secs());
                return Err(Error::Netlink { doing, why });
            }
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
        }
    }
}

/// The error number in the body of NLMSG_ERROR or NLMSG_DONE, which begins with the negative number; 0 is success.
fn error_code(answer: &[u8]) -> i32 {
    answer.first_chunk::<4>().map_or(0, |code| i32::from_ne_bytes(*code).saturating_neg())
}

/// Splits a datagram after its first message: the header and the body of that, and the rest.
pub(crate) fn split_message(datagram: &[u8]) -> Option<(NetlinkHeader, &[u8], &[u8])> {
    let buffer = NetlinkBuffer::new_checked(datagram).ok()?;
    let length = buffer.length() as usize;
    let mut header = NetlinkHeader::default();
    header.length = buffer.length();
    header.message_type = buffer.message_type();
    header.flags = buffer.flags();
    header.sequence_number = buffer.sequence_number();
    header.port_number = buffer.port_number();
    let payload = datagram.get(HEADER_LEN..length)?;
    Some((header, payload, datagram.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// The type and the body of a message as they are sent.
#[cfg(test)]
pub(crate) fn serialized(message: &impl NetlinkSerializable) -> (u16, Vec<u8>) {
    let mut body = vec![0xff; message.buffer_len()];
    message.serialize(&mut body);
    (message.message_type(), body)
}

#[cfg(test)]
mod tests;
