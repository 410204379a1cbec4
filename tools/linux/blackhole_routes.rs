//! Blackhole routes of psentry in the main routing table: dumped, added, deleted, and whether packets really take them.

pub(crate) mod message;

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;
use psentry_records::Prefix;

use self::message::{Blackhole, decode, dump, encode, encode_deletion, hosts, is_dead_end, lookup};
use crate::error::Error;
use crate::netlink::NetlinkSocket;

/// What the kernel answers to a lookup of an address that leads to a blackhole, or for which there is no route at all.
const NO_ROUTE: [Errno; 4] = [Errno::EINVAL, Errno::EHOSTUNREACH, Errno::EACCES, Errno::ENETUNREACH];

/// What it answers where there is no such route: none, no table of routes yet, no IPv6.
const ABSENT: [Errno; 4] = [Errno::ESRCH, Errno::ENOENT, Errno::EAFNOSUPPORT, Errno::EOPNOTSUPP];

/// A way to the routes.
pub struct BlackholeRoutes {
    netlink: NetlinkSocket,
}

impl BlackholeRoutes {
    /// Connects to the routing table.
    ///
    /// # Errors
    /// When the kernel has no netlink.
    pub fn open() -> Result<Self, Error> {
        let mut netlink = NetlinkSocket::open(NETLINK_ROUTE)?;
        netlink.set_strict_check();
        Ok(BlackholeRoutes { netlink })
    }

    /// The port id by which the kernel's notifications name our own changes.
    #[must_use]
    pub fn portid(&self) -> u32 {
        self.netlink.portid()
    }

    /// All routes of ours.
    ///
    /// # Errors
    /// When the kernel does not say it.
    pub fn dump(&mut self) -> Result<Vec<Blackhole>, Error> {
        let doing = "list blackhole routes";
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let request = RouteNetlinkMessage::GetRoute(dump(family));
            match self.netlink.dump(doing, &request)? {
                // Kernels without the strict check send the routes of others, too.
                Ok(answer) => routes.extend(answer.into_iter().filter_map(decode)),
                Err(errno) if ABSENT.contains(&errno) => {}
                Err(errno) => return Err(Error::Refused { doing, errno }),
            }
        }
        Ok(routes)
    }

    /// Adds a route. One with the same destination and the same metric is replaced; that would be ours, for a metric in the
    /// billions is nobody else's.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn add(&mut self, route: Blackhole) -> Result<(), Error> {
        let (doing, message) = ("add a blackhole route", RouteNetlinkMessage::NewRoute(encode(route)));
        let answer = self.netlink.request(doing, message, NLM_F_CREATE | NLM_F_REPLACE)?;
        answer.map_err(|errno| Error::Refused { doing, errno })
    }

    /// Deletes a route of ours to a scope, the one with this metric or, with `None`, any of them; whether there was one. What
    /// others have routed there stays.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn delete(&mut self, scope: Prefix, metric: Option<u32>) -> Result<bool, Error> {
        let doing = "delete a blackhole route";
        let message = RouteNetlinkMessage::DelRoute(encode_deletion(scope, metric));
        match self.netlink.request(doing, message, 0)? {
            Ok(()) => Ok(true),
            Err(errno) if ABSENT.contains(&errno) => Ok(false),
            Err(errno) => Err(Error::Refused { doing, errno }),
        }
    }

    /// Looks up where packets to the first and to the last host of a scope would go; an address that another route leads to,
    /// which stands before ours.
    ///
    /// # Errors
    /// When the kernel does not say it.
    pub fn find_reachable(&mut self, scope: Prefix) -> Result<Option<IpAddr>, Error> {
        for addr in hosts(scope) {
            if !self.is_unreachable(addr)? {
                return Ok(Some(addr));
            }
        }
        Ok(None)
    }

    fn is_unreachable(&mut self, addr: IpAddr) -> Result<bool, Error> {
        let doing = "look up a route";
        let request = RouteNetlinkMessage::GetRoute(lookup(addr));
        match self.netlink.query(doing, &request)? {
            // To a lookup a blackhole is an error, or a route of its kind.
            Err(errno) if NO_ROUTE.contains(&errno) => Ok(true),
            Err(errno) => Err(Error::Refused { doing, errno }),
            Ok(answer) => Ok(answer.iter().any(|message| match message {
                RouteNetlinkMessage::NewRoute(route) => is_dead_end(route.header.kind),
                _ => false,
            })),
        }
    }
}
