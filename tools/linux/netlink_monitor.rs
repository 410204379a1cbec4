//! A subscription to netlink multicast groups, by which the kernel reports changes: nftables those of the ruleset,
//! rtnetlink those of addresses and routes. When the socket's buffer is full, the kernel drops notifications; then the
//! subscriber has to list the current state itself. Requests are in `netlink.rs`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NetlinkHeader};
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, setsockopt, sockopt};

use crate::error::Error;
use crate::netlink::split_message;

/// The group of changes of nftables, on `NETLINK_NETFILTER` (linux/netfilter/nfnetlink.h).
pub const NFNLGRP_NFTABLES: u32 = 7;

/// The group of changes of interfaces, on `NETLINK_ROUTE`.
pub const RTNLGRP_LINK: u32 = 1;
/// The group of changes of IPv4 addresses, on `NETLINK_ROUTE` (linux/rtnetlink.h).
pub const RTNLGRP_IPV4_IFADDR: u32 = 5;
/// The group of changes of IPv4 routes, on `NETLINK_ROUTE`.
pub const RTNLGRP_IPV4_ROUTE: u32 = 7;
/// The group of changes of IPv6 addresses, on `NETLINK_ROUTE`.
pub const RTNLGRP_IPV6_IFADDR: u32 = 9;
/// The group of changes of IPv6 routes, on `NETLINK_ROUTE`.
pub const RTNLGRP_IPV6_ROUTE: u32 = 11;

/// Room for one datagram of notifications, in bytes. The kernel fills at most a page or two.
const DATAGRAM: usize = 64 * 1024;

/// SO_RCVBUF in bytes: enough for the ten thousand elements of a set that is flushed between two reads.
const RECEIVE_BUFFER: usize = 8 * 1024 * 1024;

/// The most datagrams that one call reads, so that it returns even under a flood of them.
const MAX_DATAGRAMS: usize = 256;

/// How often so many are read until nothing is left: more than have room in the buffer.
const MAX_ROUNDS: usize = 64;

/// A subscription. Its descriptor is readable while notifications wait.
pub struct NetlinkMonitor {
    socket: Socket,
    incoming: Vec<u8>,
    /// The kernel reported ENOBUFS, and what it had queued before that has not all been read.
    overrun: bool,
}

/// How a call of [`NetlinkMonitor::receive`] ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// The kernel dropped notifications: anything may have changed. It reports ENOBUFS once, before what it had queued,
    /// and goes on to drop until all of that is read, without a further ENOBUFS. So this stays set until then.
    pub lost: bool,
    /// [`NetlinkMonitor::receive`] reached its limit, and more may wait.
    pub more: bool,
}

impl NetlinkMonitor {
    /// Subscribes to `groups` of `protocol`, one of `netlink_sys::protocols`. Changes from now on are reported.
    ///
    /// # Errors
    /// [`Error::System`] when the kernel lacks the protocol or a group, or a sandbox forbids AF_NETLINK.
    pub fn open(protocol: isize, groups: &[u32]) -> Result<Self, Error> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(protocol)?;
            socket.bind_auto()?;
            // A connected socket drops what other processes send to it: only the kernel (port id 0) is received.
            socket.connect(&SocketAddr::new(0, 0))?;
            // SO_RCVBUFFORCE ignores net.core.rmem_max, and needs CAP_NET_ADMIN. A smaller buffer only means that
            // notifications are lost sooner, which is reported.
            if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
                let _ = setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER);
            }
            groups.iter().try_for_each(|group| socket.add_membership(*group))?;
            Ok(socket)
        };
        let socket = open().map_err(Error::system("subscribe to the kernel's notifications"))?;
        Ok(NetlinkMonitor { socket, incoming: Vec::with_capacity(DATAGRAM), overrun: false })
    }

    /// Reads the notifications that are queued, without waiting, and hands each to `each`: the header and the body. The
    /// header's `port_number` is the port id of the socket that asked for the change.
    ///
    /// # Errors
    /// [`Error::System`] when the socket cannot be read any more.
    pub fn receive(&mut self, mut each: impl FnMut(&NetlinkHeader, &[u8])) -> Result<Received, Error> {
        let more = self.read_queue(&mut each)?;
        let lost = self.overrun;
        self.overrun &= more;
        Ok(Received { lost, more })
    }

    /// As [`receive`](Self::receive), until nothing is left of what had room in the buffer; whether notifications were lost, or
    /// come faster than they can be read.
    ///
    /// # Errors
    /// As those of `receive`.
    pub fn receive_all(&mut self, mut each: impl FnMut(&NetlinkHeader, &[u8])) -> Result<bool, Error> {
        let mut lost = false;
        for _ in 0..MAX_ROUNDS {
            let received = self.receive(&mut each)?;
            lost |= received.lost;
            if !received.more {
                return Ok(lost);
            }
        }
        Ok(true)
    }

    /// Whether there may be more, because `MAX_DATAGRAMS` were read.
    fn read_queue(&mut self, each: &mut impl FnMut(&NetlinkHeader, &[u8])) -> Result<bool, Error> {
        for _ in 0..MAX_DATAGRAMS {
            self.incoming.clear();
            match self.socket.recv(&mut self.incoming, MsgFlags::MSG_DONTWAIT.bits()) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    self.overrun = true;
                    continue;
                }
                Err(error) => return Err(Error::system("read the kernel's notifications")(error)),
            }
            let mut rest = self.incoming.as_slice();
            while let Some((header, payload, after)) = split_message(rest) {
                rest = after;
                if ![NLMSG_NOOP, NLMSG_ERROR, NLMSG_DONE].contains(&header.message_type) {
                    each(&header, payload);
                }
            }
        }
        Ok(true)
    }
}

impl AsFd for NetlinkMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_sys::protocols::{NETLINK_ROUTE, NETLINK_USERSOCK};

    #[test]
    fn without_a_change_there_is_no_notification() {
        // A group of which only multicast routers make use.
        let mut monitor = NetlinkMonitor::open(NETLINK_ROUTE, &[31]).unwrap();
        let received = monitor.receive(|_, _| panic!("a message")).unwrap();
        assert_eq!(received, Received::default());
    }

    /// The kernel reports ENOBUFS once, and drops more while what it had queued is being read.
    #[test]
    fn a_loss_is_reported_until_the_queue_is_read() {
        // A protocol on which a process may send to a group, as the kernel does on the others.
        let mut monitor = NetlinkMonitor::open(NETLINK_USERSOCK, &[7]).unwrap();
        let mut sender = Socket::new(NETLINK_USERSOCK).unwrap();
        sender.bind_auto().unwrap();
        // A header that says how long it is: of no more than itself.
        let mut message = [0; 16];
        message[..4].copy_from_slice(&16u32.to_ne_bytes());
        message[4..6].copy_from_slice(&99u16.to_ne_bytes());
        let group = SocketAddr::new(0, 1 << 6);
        let send = |count: usize| (0..count).for_each(|_| _ = sender.send_to(&message, &group, 0));
        let mut receive = || {
            let mut count = 0;
            let received = monitor.receive(|_, _| count += 1).unwrap();
            (received, count)
        };
        send(3);
        assert_eq!(receive(), (Received::default(), 3));
        // More than there is room for.
        send(100_000);
        let mut all = 0;
        loop {
            let (received, count) = receive();
            all += count;
            assert!(received.lost, "after {all}");
            // This one is dropped as well, without a further ENOBUFS.
            send(1);
            if !received.more {
                break;
            }
        }
        assert!((MAX_DATAGRAMS..100_000).contains(&all), "{all}");
        assert_eq!(receive(), (Received::default(), 1));
    }

    #[test]
    fn a_group_that_is_not_there_is_an_error() {
        assert!(NetlinkMonitor::open(NETLINK_ROUTE, &[30_000]).is_err());
    }
}
