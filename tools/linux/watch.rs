//! What the kernel tells without being asked: a subscription to netlink's multicast groups. Nftables tells of every
//! change of the ruleset, rtnetlink of addresses and routes. The kernel drops what finds no room: then something was
//! lost, and whoever listens has to look for himself.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NetlinkHeader};
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, setsockopt, sockopt};

use crate::error::Error;
use crate::netlink::split;

/// Nftables' changes, on `NETLINK_NETFILTER` (linux/netfilter/nfnetlink.h).
pub const NFTABLES: u32 = 7;

/// Addresses and routes, on `NETLINK_ROUTE` (linux/rtnetlink.h).
pub const IPV4_ADDRESSES: u32 = 5;
/// As above.
pub const IPV4_ROUTES: u32 = 7;
/// As above.
pub const IPV6_ADDRESSES: u32 = 9;
/// As above.
pub const IPV6_ROUTES: u32 = 11;

/// The longest notification. The kernel fills at most a page or two.
const LONGEST: usize = 64 * 1024;

/// Room for what comes while nobody reads: ten thousand elements of a set that is flushed.
const ROOM: usize = 8 * 1024 * 1024;

/// How many datagrams are read at once, so that a flood of them holds nobody up for ever.
const AT_ONCE: usize = 256;

/// A subscription. Its descriptor is readable while something waits.
pub struct Watch {
    socket: Socket,
    incoming: Vec<u8>,
    /// The kernel dropped something, and what it kept before that has not all been read.
    deaf: bool,
}

/// What came of a reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The kernel had to drop something: anything may have changed. It tells of that once, before what it had kept, and
    /// goes on to drop until all of that is read; so this is said until then.
    pub lost: bool,
    /// The limit of one reading was reached, and more may wait.
    pub more: bool,
}

impl Watch {
    /// A subscription to `groups` of `protocol`, one of `netlink_sys::protocols`. What happens from now on is told.
    pub fn open(protocol: isize, groups: &[u32]) -> Result<Self, Error> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(protocol)?;
            socket.bind_auto()?;
            // Once connected, nobody but the kernel is heard.
            socket.connect(&SocketAddr::new(0, 0))?;
            // Beyond what the administrator allows everybody, where that is permitted. Less room only means that
            // something is lost sooner, which is told.
            if setsockopt(&socket, sockopt::RcvBufForce, &ROOM).is_err() {
                let _ = setsockopt(&socket, sockopt::RcvBuf, &ROOM);
            }
            groups.iter().try_for_each(|group| socket.add_membership(*group))?;
            Ok(socket)
        };
        let socket = open().map_err(Error::system("subscribe to the kernel's notifications"))?;
        Ok(Watch { socket, incoming: Vec::with_capacity(LONGEST), deaf: false })
    }

    /// Reads what waits, without waiting, and hands each message to `each`. The header's `port_number` is the address
    /// of the socket whose owner made the change.
    ///
    /// # Errors
    /// When the subscription is broken.
    pub fn hear(&mut self, mut each: impl FnMut(&NetlinkHeader, &[u8])) -> Result<Heard, Error> {
        let more = self.read(&mut each)?;
        let lost = self.deaf;
        self.deaf &= more;
        Ok(Heard { lost, more })
    }

    /// Whether the limit of one reading was reached.
    fn read(&mut self, each: &mut impl FnMut(&NetlinkHeader, &[u8])) -> Result<bool, Error> {
        for _ in 0..AT_ONCE {
            self.incoming.clear();
            match self.socket.recv(&mut self.incoming, MsgFlags::MSG_DONTWAIT.bits()) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    self.deaf = true;
                    continue;
                }
                Err(error) => return Err(Error::system("read the kernel's notifications")(error)),
            }
            let mut rest = self.incoming.as_slice();
            while let Some((header, payload, after)) = split(rest) {
                rest = after;
                if ![NLMSG_NOOP, NLMSG_ERROR, NLMSG_DONE].contains(&header.message_type) {
                    each(&header, payload);
                }
            }
        }
        Ok(true)
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_sys::protocols::{NETLINK_ROUTE, NETLINK_USERSOCK};

    #[test]
    fn where_nothing_changes_nothing_is_heard() {
        // A group of which only multicast routers make use.
        let mut watch = Watch::open(NETLINK_ROUTE, &[31]).unwrap();
        let heard = watch.hear(|_, _| panic!("a message")).unwrap();
        assert_eq!(heard, Heard::default());
    }

    /// The kernel tells once, and drops more while what it had kept is being read.
    #[test]
    fn a_loss_is_told_until_all_that_was_kept_is_read() {
        // A protocol on which a process may tell a group, as the kernel does on the others.
        let mut watch = Watch::open(NETLINK_USERSOCK, &[7]).unwrap();
        let mut teller = Socket::new(NETLINK_USERSOCK).unwrap();
        teller.bind_auto().unwrap();
        // A header that says how long it is: of no more than itself.
        let mut message = [0; 16];
        message[..4].copy_from_slice(&16u32.to_ne_bytes());
        message[4..6].copy_from_slice(&99u16.to_ne_bytes());
        let group = SocketAddr::new(0, 1 << 6);
        let tell = |count: usize| (0..count).for_each(|_| _ = teller.send_to(&message, &group, 0));
        let mut hear = || {
            let mut count = 0;
            let heard = watch.hear(|_, _| count += 1).unwrap();
            (heard, count)
        };
        tell(3);
        assert_eq!(hear(), (Heard::default(), 3));
        // More than there is room for.
        tell(100_000);
        let mut all = 0;
        loop {
            let (heard, count) = hear();
            all += count;
            assert!(heard.lost, "after {all}");
            // Dropped, too, and not told of.
            tell(1);
            if !heard.more {
                break;
            }
        }
        assert!((AT_ONCE..100_000).contains(&all), "{all}");
        assert_eq!(hear(), (Heard::default(), 1));
    }

    #[test]
    fn a_group_that_is_not_there_is_an_error() {
        assert!(Watch::open(NETLINK_ROUTE, &[30_000]).is_err());
    }
}
