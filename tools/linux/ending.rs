//! Connections that stand, found and ended: sockets of this machine by sock_diag(7), and what connection tracking knows
//! of those that pass through it. One list of each family and transport, however many peers are asked for. Which of
//! them are to end is decided by whoever calls.

use std::net::IpAddr;

use netlink_packet_core::{NLA_F_NESTED, NetlinkSerializable};
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_SOCK_DIAG};
use nix::errno::Errno;
use psentry_records::Prefix;

use crate::error::Error;
use crate::filter;
use crate::netlink::{Link, Request};
use crate::sockets::{self, Found};
use crate::tracked::{self, Tracked};

/// How many are ended at once.
const BATCH: usize = 500;

/// Who is at the other end of a connection, and what of this side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The other end's address.
    pub remote: IpAddr,
    /// The port on this side.
    pub port: u16,
    /// The number of the transport (IANA).
    pub transport: u8,
}

/// A message whose body is bytes already.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Raw {
    pub(crate) kind: u16,
    pub(crate) body: Vec<u8>,
}

/// What ends connections.
pub struct Ending {
    sockets: Link,
    tracking: Link,
}

impl Ending {
    /// Opens the way to both; asks for nothing yet.
    ///
    /// # Errors
    /// When the kernel has no netlink.
    pub fn open() -> Result<Self, Error> {
        Ok(Ending { sockets: Link::open(NETLINK_SOCK_DIAG)?, tracking: Link::open(NETLINK_NETFILTER)? })
    }

    /// Whether this kernel ends sockets for others than their owners (CONFIG_INET_DIAG_DESTROY).
    ///
    /// # Errors
    /// When it does not say, or CAP_NET_ADMIN is missing.
    pub fn can_end_sockets(&mut self) -> Result<bool, Error> {
        let doing = "end a socket";
        match self.sockets.ask(doing, sockets::end_nobodys(), 0)? {
            // There is no such socket; without support that would not even be looked for.
            Ok(()) | Err(Errno::ENOENT) => Ok(true),
            Err(Errno::EOPNOTSUPP | Errno::EINVAL) => Ok(false),
            Err(errno) => Err(Error::Refused { doing, errno }),
        }
    }

    /// Ends the connected sockets of this machine whose peers lie in `scopes` and are chosen, TCP and UDP; how many.
    /// Their owners see an error at once; the peer of a TCP connection is sent a reset.
    ///
    /// # Errors
    /// When they cannot be listed, or one of them would not end.
    pub fn end_sockets(&mut self, scopes: &[Prefix], chosen: impl Fn(Peer) -> bool) -> Result<usize, Error> {
        let mut found = Vec::new();
        for question in sockets::lists(scopes, filter::prefixes(scopes).as_deref()) {
            let read = |_: &_, body: &[u8]| Ok(sockets::read(&question, body));
            match self.sockets.dump_as("list sockets", &question, read)? {
                Ok(sockets) => found.extend(sockets.into_iter().flatten()),
                // Of a transport that this kernel cannot list, nothing is known.
                Err(Errno::ENOENT | Errno::EOPNOTSUPP) => {}
                Err(errno) => return Err(Error::Refused { doing: "list sockets", errno }),
            }
        }
        let requests = found.into_iter().filter(|socket| chosen(socket.peer)).map(Found::end);
        all_gone(&mut self.sockets, "end a socket", requests.collect())
    }

    /// Has connection tracking forget the connections whose peers lie in `scopes` and are chosen; how many. Whatever
    /// takes a known connection past the rules, such as a flow table or address translation, knows it no longer.
    ///
    /// # Errors
    /// When they cannot be listed, or one of them would not go.
    pub fn forget(&mut self, scopes: &[Prefix], chosen: impl Fn(Peer) -> bool) -> Result<usize, Error> {
        let doing = "list tracked connections";
        let mut requests = Vec::new();
        for (ipv4, question) in tracked::lists(scopes) {
            let read = |_: &_, body: &[u8]| Ok(Tracked::read(ipv4, body));
            match self.tracking.dump_as(doing, &question, read)? {
                Ok(found) => requests.extend(
                    found
                        .into_iter()
                        .flatten()
                        .filter(|tracked| tracked.peers.into_iter().flatten().any(&chosen))
                        .map(Tracked::forget),
                ),
                // A kernel without connection tracking knows none.
                Err(Errno::ENOENT | Errno::EOPNOTSUPP | Errno::EINVAL) => {}
                Err(errno) => return Err(Error::Refused { doing, errno }),
            }
        }
        all_gone(&mut self.tracking, "forget a tracked connection", requests)
    }
}

/// Sends requests that each end something; how many did. What has gone meanwhile has ended.
fn all_gone(link: &mut Link, doing: &'static str, requests: Vec<Raw>) -> Result<usize, Error> {
    let mut ended = 0;
    let mut trouble = None;
    for batch in requests.chunks(BATCH) {
        let requests =
            batch.iter().map(|raw| Request { message: raw.clone(), flags: 0, acked: true }).collect();
        for answer in link.batch(doing, requests)? {
            match answer {
                Ok(()) => ended += 1,
                Err(Errno::ENOENT) => {}
                Err(errno) => trouble = Some(Error::Refused { doing, errno }),
            }
        }
    }
    trouble.map_or(Ok(ended), Err)
}

/// An attribute with its padding.
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// An attribute of attributes.
pub(crate) fn nested(kind: u16, value: &[u8]) -> Vec<u8> {
    attribute(kind | NLA_F_NESTED, value)
}

impl NetlinkSerializable for Raw {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.body.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        for (to, from) in buffer.iter_mut().zip(&self.body) {
            *to = *from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_their_length_is_not() {
        assert_eq!(attribute(1, b"abc"), [&7u16.to_ne_bytes()[..], &1u16.to_ne_bytes(), b"abc\0"].concat());
        assert_eq!(nested(1, b"").get(2..), Some(&0x8001u16.to_ne_bytes()[..]));
    }
}
