//! Our routes in the kernel: dumped, added, deleted, and whether packets really take them.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;
use psentry_linux::{Error as LinuxError, NetlinkSocket, Request};
use psentry_records::Prefix;

use super::NAME;
use super::message::{self, Blackhole, decode, hosts, is_dead_end};
use crate::error::Error;

/// The most requests in one datagram, as far as there is room for the answers to all of them.
const BATCH: usize = 1000;

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
            let request = RouteNetlinkMessage::GetRoute(message::dump(family));
            match self.netlink.dump(doing, &request)? {
                // Kernels without the strict check send the routes of others, too.
                Ok(answer) => routes.extend(answer.into_iter().filter_map(decode)),
                Err(errno) if ABSENT.contains(&errno) => {}
                Err(errno) => return Err(refused(doing, errno)),
            }
        }
        Ok(routes)
    }

    /// Adds routes. One with the same destination and the same metric is replaced; that would be ours, for a metric in the
    /// billions is nobody else's.
    pub(super) fn add(&mut self, routes: &[Blackhole]) -> Vec<Result<(), Error>> {
        let messages =
            routes.iter().map(|route| RouteNetlinkMessage::NewRoute(message::encode(*route))).collect();
        let doing = "add a blackhole route";
        let answers = self.send(doing, messages, NLM_F_CREATE | NLM_F_REPLACE);
        answers.into_iter().map(|answer| answer?.map_err(|errno| refused(doing, errno))).collect()
    }

    /// Deletes routes of ours, and says of each whether there was one. With `None` for a metric it is any route of ours to
    /// the scope. What others have routed there stays.
    pub(super) fn delete(&mut self, routes: &[(Prefix, Option<u32>)]) -> Vec<Result<bool, Error>> {
        let message = |(scope, metric): &(Prefix, Option<u32>)| -> RouteMessage {
            message::encode_deletion(*scope, *metric)
        };
        let messages = routes.iter().map(|route| RouteNetlinkMessage::DelRoute(message(route))).collect();
        let doing = "delete a blackhole route";
        let answered = |answer: Result<Result<(), Errno>, Error>| match answer? {
            Ok(()) => Ok(true),
            Err(errno) if ABSENT.contains(&errno) => Ok(false),
            Err(errno) => Err(refused(doing, errno)),
        };
        self.send(doing, messages, 0).into_iter().map(answered).collect()
    }

    /// Deletes all routes of ours to each scope, however many there are.
    pub(super) fn delete_all(&mut self, scopes: &[Prefix]) -> Vec<Result<(), Error>> {
        let mut results: Vec<Result<(), Error>> = vec![Ok(()); scopes.len()];
        let mut left: Vec<(usize, Prefix)> = scopes.iter().copied().enumerate().collect();
        while !left.is_empty() {
            let any: Vec<_> = left.iter().map(|(_, scope)| (*scope, None)).collect();
            let mut again = Vec::new();
            for ((at, scope), answer) in left.into_iter().zip(self.delete(&any)) {
                match answer {
                    // A request deletes one route: there may be another one.
                    Ok(true) => again.push((at, scope)),
                    Ok(false) => {}
                    Err(error) => {
                        if let Some(result) = results.get_mut(at) {
                            *result = Err(error);
                        }
                    }
                }
            }
            left = again;
        }
        results
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
        let request = RouteNetlinkMessage::GetRoute(message::lookup(addr));
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

    /// Sends requests in batches, and returns the kernel's answer to each.
    fn send(
        &mut self,
        doing: &'static str,
        messages: Vec<RouteNetlinkMessage>,
        flags: u16,
    ) -> Vec<Result<Result<(), Errno>, Error>> {
        let most = self.netlink.ack_capacity().min(BATCH);
        let mut answers = Vec::with_capacity(messages.len());
        let mut requests = messages.into_iter().map(|message| Request { message, flags, acked: true });
        loop {
            let batch: Vec<_> = requests.by_ref().take(most).collect();
            let count = batch.len();
            if count == 0 {
                return answers;
            }
            match self.netlink.batch(doing, batch) {
                Ok(batch) => answers.extend(batch.into_iter().map(Ok)),
                Err(error) => answers.extend(vec![Err(error.into()); count]),
            }
        }
    }
}

fn refused(doing: &'static str, errno: Errno) -> Error {
    match errno {
        Errno::EPERM | Errno::EACCES => Error::NotPermitted { backend: NAME },
        errno => LinuxError::Refused { doing, errno }.into(),
    }
}
