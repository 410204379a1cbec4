//! Our routes in the kernel: dumped, added, deleted, and whether packets really take them.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;
use psentry_linux::{Error as LinuxError, NetlinkSocket};
use psentry_records::Prefix;

use super::NAME;
use super::message::{Blackhole, decode, dump, encode, encode_deletion, hosts, is_dead_end, lookup};
use crate::error::Error;

/// What the kernel answers to a lookup of an address that leads to a blackhole, or for which there is no route at all.
const NO_ROUTE: [Errno; 4] = [Errno::EINVAL, Errno::EHOSTUNREACH, Errno::EACCES, Errno::ENETUNREACH];

/// What it answers where there is no such route: none, no table of routes yet, no IPv6.
const ABSENT: [Errno; 4] = [Errno::ESRCH, Errno::ENOENT, Errno::EAFNOSUPPORT, Errno::EOPNOTSUPP];

/// The routing table.
pub(super) struct RoutingTable {
    netlink: NetlinkSocket,
}

impl RoutingTable {
    pub(super) fn open() -> Result<Self, Error> {
        let mut netlink = NetlinkSocket::open(NETLINK_ROUTE)?;
        netlink.set_strict_check();
        Ok(RoutingTable { netlink })
    }

    /// The port id by which the kernel's notifications name our own changes.
    pub(super) fn portid(&self) -> u32 {
        self.netlink.portid()
    }

    /// All routes of ours.
    pub(super) fn dump(&mut self) -> Result<Vec<Blackhole>, Error> {
        let doing = "list blackhole routes";
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let request = RouteNetlinkMessage::GetRoute(dump(family));
            match self.netlink.dump(doing, &request)? {
                // Kernels without the strict check send the routes of others, too.
                Ok(answer) => routes.extend(answer.into_iter().filter_map(decode)),
                Err(errno) if ABSENT.contains(&errno) => {}
                Err(errno) => return Err(refused(doing, errno)),
            }
        }
        Ok(routes)
    }

    /// Adds a route. One with the same destination and the same metric is replaced; that would be ours, for a metric in the
    /// billions is nobody else's.
    pub(super) fn add(&mut self, route: Blackhole) -> Result<(), Error> {
        let (doing, message) = ("add a blackhole route", RouteNetlinkMessage::NewRoute(encode(route)));
        let answer = self.netlink.request(doing, message, NLM_F_CREATE | NLM_F_REPLACE)?;
        answer.map_err(|errno| refused(doing, errno))
    }

    /// Deletes a route of ours to a scope, the one with this metric or, with `None`, any of them; whether there was one. What
    /// others have routed there stays.
    pub(super) fn delete(&mut self, scope: Prefix, metric: Option<u32>) -> Result<bool, Error> {
        let doing = "delete a blackhole route";
        let message = RouteNetlinkMessage::DelRoute(encode_deletion(scope, metric));
        match self.netlink.request(doing, message, 0)? {
            Ok(()) => Ok(true),
            Err(errno) if ABSENT.contains(&errno) => Ok(false),
            Err(errno) => Err(refused(doing, errno)),
        }
    }

    /// Looks up where packets to the first and to the last host of a scope would go.
    ///
    /// # Errors
    /// [`Error::NoEffect`] when another route stands before ours.
    pub(super) fn confirm(&mut self, scope: Prefix) -> Result<(), Error> {
        hosts(scope).into_iter().try_for_each(|addr| self.confirm_host(addr))
    }

    fn confirm_host(&mut self, addr: IpAddr) -> Result<(), Error> {
        let doing = "look up a route";
        let request = RouteNetlinkMessage::GetRoute(lookup(addr));
        let blocked = match self.netlink.query(doing, &request)? {
            // To a lookup a blackhole is an error, or a route of its kind.
            Err(errno) if NO_ROUTE.contains(&errno) => true,
            Err(errno) => return Err(refused(doing, errno)),
            Ok(answer) => answer.iter().any(|message| match message {
                RouteNetlinkMessage::NewRoute(route) => is_dead_end(route.header.kind),
                _ => false,
            }),
        };
        if blocked {
            return Ok(());
        }
        Err(Error::NoEffect(format!(
            "another route to {addr} stands before the blackhole; 'ip route get {addr}' shows it"
        )))
    }
}

fn refused(doing: &'static str, errno: Errno) -> Error {
    match errno {
        Errno::EPERM | Errno::EACCES => Error::NotPermitted { backend: NAME },
        errno => LinuxError::Refused { doing, errno }.into(),
    }
}
