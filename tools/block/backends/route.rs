//! Blocks as blackhole routes: what this machine sends to the source goes nowhere, so that no connection comes
//! about. Packets still arrive. The number of the routing protocol says that a route is ours, its metric says
//! when it ends, so that a later psentry-block knows both.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;
use psentry_kernel::{Error as Below, Link};
use psentry_records::{Prefix, Timestamp};

use crate::backend::{Backend, Block, Change, Effect, Entry, Wish};
use crate::error::Error;

const NAME: &str = "route";

/// The routing protocol of our routes, in the range that is nobody's (rtnetlink(7), `/etc/iproute2/rt_protos`).
const PROTOCOL: u8 = 158;

/// The metric of a route that ends when somebody ends it. Others have the second of their end.
const NO_END: u32 = u32::MAX;

/// What the kernel answers of an address to which a blackhole leads, or nothing at all.
const NOWHERE: [Errno; 4] = [Errno::EINVAL, Errno::EHOSTUNREACH, Errno::EACCES, Errno::ENETUNREACH];

/// The backend.
pub(super) struct Route {
    link: Link,
}

/// One of our routes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Hole {
    scope: Prefix,
    metric: u32,
}

impl Route {
    pub(super) fn open() -> Result<Self, Error> {
        let mut link = Link::open(NETLINK_ROUTE)?;
        link.filter_dumps();
        Ok(Route { link })
    }

    /// Our routes of one family.
    fn holes(&mut self, family: AddressFamily) -> Result<Vec<Hole>, Error> {
        let doing = "list blackhole routes";
        let mut question = RouteMessage::default();
        question.header = header(family);
        // The kernel filters; what it sends beyond that is passed over below.
        question.header.scope = RouteScope::Universe;
        let answer = match self.link.dump(doing, &RouteNetlinkMessage::GetRoute(question))? {
            Ok(answer) => answer,
            // A table without routes is none; a kernel without IPv6 has no routes of it.
            Err(Errno::ENOENT | Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP) => return Ok(Vec::new()),
            Err(errno) => return Err(refused(doing, errno)),
        };
        Ok(answer.into_iter().filter_map(hole).collect())
    }

    fn all(&mut self) -> Result<Vec<Hole>, Error> {
        let mut holes = self.holes(AddressFamily::Inet)?;
        holes.extend(self.holes(AddressFamily::Inet6)?);
        Ok(holes)
    }

    /// The new route first, and once it is confirmed the old ones go: there is no moment without. `standing` are those of the scope.
    fn block(&mut self, scope: Prefix, block: &Block, standing: &[Hole]) -> Result<Effect, Error> {
        let hole = Hole { scope, metric: metric(block.until) };
        if !standing.contains(&hole) {
            let doing = "add a blackhole route";
            let message = RouteNetlinkMessage::NewRoute(message(hole));
            match self.link.ask(doing, message, NLM_F_CREATE | NLM_F_EXCL)? {
                Ok(()) => {}
                Err(errno) => return Err(refused(doing, errno)),
            }
        }
        if let Err(error) = self.confirm(scope) {
            // What has no effect is not left standing either.
            self.delete(hole)?;
            return Err(error);
        }
        for old in standing.iter().filter(|old| **old != hole) {
            self.delete(*old)?;
        }
        Ok(Effect::Done)
    }

    fn release(&mut self, standing: &[Hole]) -> Result<Effect, Error> {
        for hole in standing {
            self.delete(*hole)?;
        }
        Ok(if standing.is_empty() { Effect::WasNotThere } else { Effect::Done })
    }

    fn delete(&mut self, hole: Hole) -> Result<(), Error> {
        let doing = "delete a blackhole route";
        let mut message = message(hole);
        // To a deletion "nowhere" means: whatever scope.
        message.header.scope = RouteScope::NoWhere;
        match self.link.ask(doing, RouteNetlinkMessage::DelRoute(message), 0)? {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(refused(doing, errno)),
        }
    }

    /// Asks where packets to the scope would go, to its first host and to its last: another route may stand before
    /// ours.
    fn confirm(&mut self, scope: Prefix) -> Result<(), Error> {
        hosts(scope).into_iter().try_for_each(|addr| self.confirm_host(addr))
    }

    fn confirm_host(&mut self, addr: IpAddr) -> Result<(), Error> {
        let mut question = RouteMessage::default();
        let host = Prefix::host(addr);
        question.header.address_family = family(host);
        question.header.destination_prefix_length = host.len();
        question.attributes = vec![RouteAttribute::Destination(addr.into())];
        let doing = "say which route holds";
        let holds = match self.link.query(doing, &RouteNetlinkMessage::GetRoute(question))? {
            // Blackholes answer with an error, or with a route of their kind.
            Err(errno) if NOWHERE.contains(&errno) => true,
            Err(errno) => return Err(refused(doing, errno)),
            Ok(answer) => answer.iter().any(|message| match message {
                RouteNetlinkMessage::NewRoute(route) => route.header.kind == RouteType::BlackHole,
                _ => false,
            }),
        };
        if holds {
            return Ok(());
        }
        Err(Error::NoEffect(format!(
            "another route to {addr} stands before the blackhole; 'ip route get {addr}' shows it"
        )))
    }
}

/// The first and the last host of a scope, of a network those that are no broadcast address.
fn hosts(scope: Prefix) -> Vec<IpAddr> {
    let (first, last) = (scope.addr(), scope.last());
    match (first, last) {
        _ if scope.is_host() => vec![first],
        (IpAddr::V4(first), IpAddr::V4(last)) if scope.len() < 31 => {
            vec![Ipv4Addr::from(u32::from(first) + 1).into(), Ipv4Addr::from(u32::from(last) - 1).into()]
        }
        (first, last) => vec![first, last],
    }
}

impl Backend for Route {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&mut self) -> Result<Vec<Entry>, Error> {
        // Deleting what cannot be there changes nothing, and tells whether changing is allowed.
        let nobody = Hole { scope: Prefix::around([0, 0, 0, 0].into(), 32), metric: 1 };
        self.delete(nobody)?;
        self.list()
    }

    fn apply(&mut self, changes: &[Change], _: Timestamp) -> Vec<Result<Effect, Error>> {
        let standing = match self.all() {
            Ok(standing) => standing,
            Err(error) => return changes.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut by_scope: HashMap<Prefix, Vec<Hole>> = HashMap::new();
        for hole in standing {
            by_scope.entry(hole.scope).or_default().push(hole);
        }
        let mut effects = Vec::with_capacity(changes.len());
        for Change { scope, wish } in changes {
            let standing = by_scope.remove(scope).unwrap_or_default();
            effects.push(match wish {
                Wish::Block(block) => self.block(*scope, block, &standing),
                Wish::Release(_) => self.release(&standing),
            });
        }
        effects
    }

    fn list(&mut self) -> Result<Vec<Entry>, Error> {
        let entry = |hole: Hole| Entry::new(hole.scope, end(hole.metric), None);
        Ok(self.all()?.into_iter().map(entry).collect())
    }

    fn remove(&mut self) -> Result<Vec<Entry>, Error> {
        let entries = self.list()?;
        for hole in self.all()? {
            self.delete(hole)?;
        }
        Ok(entries)
    }

    fn ends_by_itself(&self) -> bool {
        false
    }
}

fn header(family: AddressFamily) -> RouteHeader {
    RouteHeader {
        address_family: family,
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Other(PROTOCOL),
        scope: RouteScope::Universe,
        kind: RouteType::BlackHole,
        ..RouteHeader::default()
    }
}

fn message(hole: Hole) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = header(family(hole.scope));
    message.header.destination_prefix_length = hole.scope.len();
    message.attributes =
        vec![RouteAttribute::Destination(address(hole.scope)), RouteAttribute::Priority(hole.metric)];
    message
}

/// The route that a message tells of, if it is ours.
fn hole(message: RouteNetlinkMessage) -> Option<Hole> {
    let RouteNetlinkMessage::NewRoute(route) = message else { return None };
    let ours = route.header.protocol == RouteProtocol::Other(PROTOCOL)
        && route.header.kind == RouteType::BlackHole
        && route.header.table == RouteHeader::RT_TABLE_MAIN;
    if !ours {
        return None;
    }
    let (mut addr, mut metric) = (None, NO_END);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(v4)) => addr = Some(IpAddr::V4(*v4)),
            RouteAttribute::Destination(RouteAddress::Inet6(v6)) => addr = Some(IpAddr::V6(*v6)),
            RouteAttribute::Priority(priority) => metric = *priority,
            _ => {}
        }
    }
    let scope = format!("{}/{}", addr?, route.header.destination_prefix_length).parse().ok()?;
    Some(Hole { scope, metric })
}

fn family(scope: Prefix) -> AddressFamily {
    if scope.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn address(scope: Prefix) -> RouteAddress {
    scope.addr().into()
}

/// The second at which a block ends, as a metric. In 2106 this is full; then a block has no end here.
fn metric(until: Option<Timestamp>) -> u32 {
    until.and_then(|until| u32::try_from(until.secs_ceil()).ok()).unwrap_or(NO_END)
}

fn end(metric: u32) -> Option<Timestamp> {
    if metric == NO_END { None } else { Timestamp::from_secs(metric.into()) }
}

fn refused(doing: &'static str, errno: Errno) -> Error {
    match errno {
        Errno::EPERM | Errno::EACCES => Error::NotPermitted { backend: NAME },
        errno => Below::Refused { doing, errno }.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_tells_whose_it_is_and_when_it_ends() {
        let until: Timestamp = "2026-11-22T15:04:05.5Z".parse().unwrap();
        for scope in ["192.0.2.7/32", "198.51.96.0/20", "2001:db8::/64"] {
            for until in [Some(until), None] {
                let sent = Hole { scope: scope.parse().unwrap(), metric: metric(until) };
                let read = hole(RouteNetlinkMessage::NewRoute(message(sent)));
                assert_eq!(read, Some(sent));
            }
        }
        assert_eq!(end(metric(Some(until))).unwrap().to_string(), "2026-11-22T15:04:06.000000Z");
        assert_eq!(end(metric(None)), None);
    }

    #[test]
    fn a_network_is_asked_for_at_both_ends() {
        for (scope, want) in [
            ("192.0.2.7/32", &["192.0.2.7"][..]),
            ("192.0.2.6/31", &["192.0.2.6", "192.0.2.7"]),
            ("198.51.96.0/20", &["198.51.96.1", "198.51.111.254"]),
            ("2001:db8::/64", &["2001:db8::", "2001:db8::ffff:ffff:ffff:ffff"]),
        ] {
            let got: Vec<String> = hosts(scope.parse().unwrap()).iter().map(IpAddr::to_string).collect();
            assert_eq!(got, want);
        }
    }

    #[test]
    fn routes_of_others_are_not_ours() {
        let ours = message(Hole { scope: "192.0.2.7".parse().unwrap(), metric: 5 });
        let mut others = [ours.clone(), ours.clone(), ours];
        others[0].header.protocol = RouteProtocol::Static;
        others[1].header.kind = RouteType::Unicast;
        others[2].header.table = 7;
        for other in others {
            assert_eq!(hole(RouteNetlinkMessage::NewRoute(other)), None);
        }
    }
}
