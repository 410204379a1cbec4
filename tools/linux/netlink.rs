//! A socket to the kernel: requests out, and for each its acknowledgement, within a time limit. Knows netlink's
//! envelope only; what is inside belongs to whoever asks.

mod lists;

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
use crate::port;

/// How long the kernel may take. It answers within microseconds, or after a long commit within a second.
const LIMIT: Duration = Duration::from_secs(10);

/// The kernel sends at most 32 KiB at once.
const ANSWER: usize = 64 * 1024;

/// Room for one batch of requests. Where the administrator's limit holds, it is some 200 KiB.
const SEND: usize = 4 * 1024 * 1024;

/// Room for the acknowledgements of one batch. Where the administrator's limit holds, it is some 200 KiB, too.
const RECEIVE: usize = 1024 * 1024;

/// What an acknowledgement weighs at most: some 800 bytes (measured).
const ACKNOWLEDGEMENT: usize = 1024;

/// The length of a message's header (netlink(7)).
const HEADER: usize = 16;

/// A connection to one subsystem of the kernel.
pub struct Link {
    socket: Socket,
    port: u32,
    sequence: u32,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
}

/// A request within a batch.
pub struct Request<M> {
    /// What is asked.
    pub message: M,
    /// Flags of its header besides NLM_F_REQUEST and NLM_F_ACK (netlink(7)).
    pub flags: u16,
    /// Whether the kernel is to acknowledge it.
    pub acked: bool,
}

impl Link {
    /// A connection to `protocol`, one of `netlink_sys::protocols`.
    pub fn open(protocol: isize) -> Result<Self, Error> {
        let open = || -> io::Result<(Socket, u32)> {
            let mut socket = Socket::new(protocol)?;
            let port = port::bind(&mut socket)?;
            // Once connected, nobody but the kernel is heard.
            socket.connect(&SocketAddr::new(0, 0))?;
            socket.set_cap_ack(true)?;
            // A smaller buffer only means that a large batch is refused and tried in pieces.
            if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE).is_err() {
                let _ = setsockopt(&socket, sockopt::RcvBuf, &RECEIVE);
            }
            if setsockopt(&socket, sockopt::SndBufForce, &SEND).is_err() {
                let _ = setsockopt(&socket, sockopt::SndBuf, &SEND);
            }
            Ok((socket, port))
        };
        let (socket, port) = open().map_err(Error::system("open a netlink socket"))?;
        Ok(Link { socket, port, sequence: 0, outgoing: Vec::new(), incoming: Vec::with_capacity(ANSWER) })
    }

    /// Its address: notifications of what it changed carry it.
    #[must_use]
    pub fn port(&self) -> u32 {
        self.port
    }

    /// How many bytes of requests it takes at once.
    #[must_use]
    pub fn room(&self) -> usize {
        // The kernel keeps some of it for itself.
        getsockopt(&self.socket, sockopt::SndBuf).map_or(0, |room| room.saturating_sub(32))
    }

    /// How many acknowledgements find room: what is asked beyond that is done, and the answer lost.
    #[must_use]
    pub fn answers(&self) -> usize {
        getsockopt(&self.socket, sockopt::RcvBuf).map_or(0, |room| room / ACKNOWLEDGEMENT).max(1)
    }

    /// Has the kernel take the filters of a dump seriously; an old kernel only sends more than was asked for.
    pub fn filter_dumps(&mut self) {
        let _ = self.socket.set_netlink_get_strict_chk(true);
    }

    /// Sends requests as one batch and collects the kernel's answer to each, in their order; a request that asks
    /// for none has `Ok`, unless the kernel objected.
    pub fn batch<M: NetlinkSerializable>(
        &mut self,
        doing: &'static str,
        requests: Vec<Request<M>>,
    ) -> Result<Vec<Result<(), Errno>>, Error> {
        let codes = self.codes(doing, requests)?;
        Ok(codes
            .into_iter()
            .map(|code| if code == 0 { Ok(()) } else { Err(Errno::from_raw(code)) })
            .collect())
    }

    /// As `batch`, for a subsystem that has more numbers than errno: 0, or the number of the error.
    pub fn codes<M: NetlinkSerializable>(
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
            self.enclose(NetlinkPayload::InnerMessage(request.message), request.flags | ack | NLM_F_REQUEST);
        }
        self.send(doing)?;
        let started = Instant::now();
        while answers.iter().any(Option::is_none) {
            self.receive(doing, started)?;
            let mut rest = self.incoming.as_slice();
            while let Some((header, payload, after)) = split(rest) {
                rest = after;
                let at = header.sequence_number.wrapping_sub(first) as usize;
                if header.message_type != netlink_packet_core::NLMSG_ERROR {
                    continue;
                }
                let Some(answer) = answers.get_mut(at) else { continue };
                let unasked = answer.is_some();
                let code = error_code(payload);
                *answer = Some(code);
                if unasked && code != 0 {
                    // The frame of the batch was refused, and with it everything inside.
                    return Ok(vec![code; answers.len()]);
                }
            }
        }
        Ok(answers.into_iter().map(|answer| answer.unwrap_or(Errno::ENODATA as i32)).collect())
    }

    /// Sends one request and waits for its acknowledgement.
    pub fn ask<M: NetlinkSerializable>(
        &mut self,
        doing: &'static str,
        message: M,
        flags: u16,
    ) -> Result<Result<(), Errno>, Error> {
        let answers = self.batch(doing, vec![Request { message, flags, acked: true }])?;
        Ok(answers.into_iter().next().unwrap_or(Err(Errno::ENODATA)))
    }

    /// Appends a message to what is sent next.
    fn enclose<M: NetlinkSerializable>(&mut self, payload: NetlinkPayload<M>, flags: u16) {
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

    /// One datagram into `incoming`. The kernel answers most requests before send(2) returns, so poll(2) comes
    /// second.
    fn receive(&mut self, doing: &'static str, started: Instant) -> Result<(), Error> {
        loop {
            self.incoming.clear();
            match self.socket.recv(&mut self.incoming, MsgFlags::MSG_DONTWAIT.bits()) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(Error::Netlink { doing, why: error.to_string() }),
            }
            let left = LIMIT.saturating_sub(started.elapsed());
            if left.is_zero() {
                let why = format!("nothing came within {} s", LIMIT.as_secs());
                return Err(Error::Netlink { doing, why });
            }
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
        }
    }
}

/// The number of the error that an answer begins with; 0: all went well.
fn error_code(answer: &[u8]) -> i32 {
    answer.first_chunk::<4>().map_or(0, |code| i32::from_ne_bytes(*code).saturating_neg())
}

/// The first message of a datagram: its header, what it holds, and what comes after it.
pub(crate) fn split(datagram: &[u8]) -> Option<(NetlinkHeader, &[u8], &[u8])> {
    let buffer = NetlinkBuffer::new_checked(datagram).ok()?;
    let length = buffer.length() as usize;
    let mut header = NetlinkHeader::default();
    header.length = buffer.length();
    header.message_type = buffer.message_type();
    header.flags = buffer.flags();
    header.sequence_number = buffer.sequence_number();
    header.port_number = buffer.port_number();
    let payload = datagram.get(HEADER..length)?;
    Some((header, payload, datagram.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

#[cfg(test)]
mod tests;
