//! Blocks as blackhole routes: what this machine sends to the source goes nowhere, so that no connection comes about. Packets
//! still arrive, and nothing of an established connection is spared. Where the answer is to be a rejection, the routes give
//! one: to programs of this machine, and to those for whom it forwards. A route says itself whose it is and when it ends; the
//! kernel does not delete it then.
//!
//! Another route may stand before ours: a more specific one, or one with a lower metric. `apply` refuses such a block, and
//! `list` reports it where the other route came later. A rule of policy routing (ip-rule(8)) that came later is not seen.
//!
//! | file | what it holds |
//! |---|---|
//! | `requests.rs` | our routes in the kernel: dumped, added, deleted, looked up |
//! | `message.rs` | routes as messages and back, and notifications |

mod message;
mod requests;

use std::collections::{BTreeSet, HashSet};
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::protocols::NETLINK_ROUTE;
use psentry_linux::NetlinkMonitor;
use psentry_linux::netlink_monitor::{RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE};
use psentry_records::{Prefix, Timestamp};

use self::message::{Blackhole, Notification, decode_notification, end, metric};
use self::requests::RoutingTable;
use crate::backend::{Backend, Caps, Drift, Listing, Op};
use crate::block::{Block, Entry};
use crate::error::Error;
use crate::reach::{Answer, Reach};

const NAME: &str = "route";

/// The backend.
pub(super) struct Route {
    table: RoutingTable,
    monitor: Option<NetlinkMonitor>,
    /// Whether the routes are to give an answer.
    reject: bool,
    /// Our routes, as they were listed last and have been changed by us since.
    ours: BTreeSet<Blackhole>,
    /// Which of them the next list has to look up.
    suspects: Suspects,
}

/// The blocks of which it is not known whether another route stands before them.
enum Suspects {
    /// All: nobody has listened for the routes of others.
    All,
    /// These: a route of others that may stand before them came or went, or stood before them when it was listed last.
    Some(HashSet<Prefix>),
}

impl Route {
    pub(super) fn open(reach: Reach) -> Result<Self, Error> {
        let (table, reject) = (RoutingTable::open()?, reach.answer == Answer::Reject);
        Ok(Route { table, monitor: None, reject, ours: BTreeSet::new(), suspects: Suspects::All })
    }

    /// Three passes over all blocks: the new routes are added, it is confirmed that packets take them, and the old routes are
    /// deleted. So a source that is blocked already is so at every moment.
    fn put(&mut self, blocks: &[(Prefix, &Block, Option<&Entry>)]) -> Vec<Result<(), Error>> {
        let new: Vec<Blackhole> = blocks
            .iter()
            .map(|(scope, block, _)| Blackhole {
                scope: *scope,
                metric: metric(block.until),
                reject: self.reject,
            })
            .collect();
        let mut results = self.table.add(&new);
        for (route, result) in new.iter().zip(&mut results).filter(|(_, result)| result.is_ok()) {
            if let Err(error) = self.table.confirm(route.scope) {
                // What blocks nobody must not look like a block.
                let deleted = self.table.delete(&[(route.scope, Some(route.metric))]);
                *result = deleted.into_iter().collect::<Result<Vec<_>, _>>().and(Err(error));
            }
        }
        let mut old = Vec::new();
        for (at, ((route, result), (_, _, was))) in new.iter().zip(&results).zip(blocks).enumerate() {
            if result.is_ok() {
                let known = self.of(route.scope).map(|old| old.metric);
                let metrics: BTreeSet<u32> = known.chain(was.map(|was| metric(was.until))).collect();
                let others = metrics.into_iter().filter(|metric| *metric != route.metric);
                old.extend(others.map(|metric| (at, (route.scope, Some(metric)))));
            }
        }
        let (places, old): (Vec<usize>, Vec<_>) = old.into_iter().unzip();
        for (at, deleted) in places.into_iter().zip(self.table.delete(&old)) {
            if let (Err(error), Some(result)) = (deleted, results.get_mut(at)) {
                *result = Err(error);
            }
        }
        for (route, result) in new.iter().zip(&results) {
            if result.is_ok() {
                self.forget(route.scope);
                self.ours.insert(*route);
            }
        }
        results
    }

    fn delete(&mut self, scopes: &[Prefix]) -> Vec<Result<(), Error>> {
        let results = self.table.delete_all(scopes);
        for (scope, _) in scopes.iter().zip(&results).filter(|(_, result)| result.is_ok()) {
            self.forget(*scope);
        }
        results
    }

    /// Our routes to a scope.
    fn of(&self, scope: Prefix) -> impl Iterator<Item = &Blackhole> {
        let [first, last] =
            [(0, false), (u32::MAX, true)].map(|(metric, reject)| Blackhole { scope, metric, reject });
        self.ours.range(first..=last)
    }

    fn forget(&mut self, scope: Prefix) {
        let old: Vec<Blackhole> = self.of(scope).copied().collect();
        old.iter().for_each(|route| _ = self.ours.remove(route));
    }
}

impl Backend for Route {
    fn caps(&self) -> Caps {
        // A batch is three passes over all of its routes, whatever their number.
        Caps { expires: false, spares: false, batch: 20_000, ..Caps::of(NAME) }
    }

    fn ensure(&mut self) -> Result<bool, Error> {
        // To delete what cannot be there changes nothing, and shows whether changing is allowed.
        let nobody = Prefix::around([0, 0, 0, 0].into(), 32);
        self.table.delete(&[(nobody, Some(1))]).into_iter().collect::<Result<Vec<_>, _>>()?;
        if self.monitor.is_none() {
            let groups = [RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE];
            self.monitor = Some(NetlinkMonitor::open(NETLINK_ROUTE, &groups)?);
            self.suspects = Suspects::All;
        }
        Ok(false)
    }

    fn list(&mut self) -> Result<Listing, Error> {
        self.ours = self.table.dump()?.into_iter().collect();
        let entries = entries(&self.ours, self.reject);
        let suspects: Vec<Prefix> = match &self.suspects {
            Suspects::All => entries.iter().map(|entry| entry.scope).collect(),
            Suspects::Some(scopes) => {
                scopes.iter().copied().filter(|scope| self.of(*scope).next().is_some()).collect()
            }
        };
        let (mut beaten, mut shadowed) = (HashSet::new(), Vec::new());
        for scope in suspects {
            match self.table.confirm(scope) {
                Ok(()) => {}
                Err(Error::NoEffect(why)) => {
                    shadowed.push(format!("{scope} is not blocked: {why}"));
                    beaten.insert(scope);
                }
                Err(error) => return Err(error),
            }
        }
        shadowed.sort();
        // Without notifications nothing is known of what comes later.
        if self.monitor.is_some() {
            self.suspects = Suspects::Some(beaten);
        }
        Ok(Listing { entries, shadowed })
    }

    fn apply(&mut self, ops: &[Op], _: Timestamp) -> Vec<Result<(), Error>> {
        let (mut blocks, mut deletions) = (Vec::new(), Vec::new());
        for op in ops {
            match op {
                Op::Put { scope, block, was } => blocks.push((*scope, block, was.as_ref())),
                Op::Delete { scope, .. } => deletions.push(*scope),
            }
        }
        let (mut put, mut deleted) = (self.put(&blocks).into_iter(), self.delete(&deletions).into_iter());
        let result = |op: &Op| match op {
            Op::Put { .. } => put.next(),
            Op::Delete { .. } => deleted.next(),
        };
        let lost = || Err(Error::Unfinished("a route has no result; this is a bug of psentry".to_owned()));
        ops.iter().map(result).map(|result| result.unwrap_or_else(lost)).collect()
    }

    fn events(&self) -> Option<BorrowedFd<'_>> {
        self.monitor.as_ref().map(NetlinkMonitor::as_fd)
    }

    fn drift(&mut self) -> Result<Option<Drift>, Error> {
        let Some(monitor) = &mut self.monitor else { return Ok(None) };
        let own = self.table.portid();
        let (mut ours, mut others) = (false, Vec::new());
        let received = monitor.receive(|header, body| {
            if header.port_number != own {
                match decode_notification(header, body) {
                    Some(Notification::Ours) => ours = true,
                    Some(other) => others.push(other),
                    None => {}
                }
            }
        });
        let received = received.inspect_err(|_| self.monitor = None)?;
        if received.lost {
            self.suspects = Suspects::All;
            return Ok(Some(Drift::default()));
        }
        let affected: Vec<Prefix> = others.into_iter().flat_map(|other| self.affected(other)).collect();
        let drifted = ours || !affected.is_empty();
        if let Suspects::Some(suspects) = &mut self.suspects {
            suspects.extend(affected);
        }
        Ok(drifted.then(Drift::default))
    }

    fn purge(&mut self) -> Result<(), Error> {
        let scopes: BTreeSet<Prefix> = self.table.dump()?.into_iter().map(|route| route.scope).collect();
        self.delete(&scopes.into_iter().collect::<Vec<_>>()).into_iter().collect()
    }
}

impl Route {
    /// Which of our scopes a route of others may stand before, or not any more: those around its destination.
    fn affected(&self, other: Notification) -> Vec<Prefix> {
        let (to, added) = match other {
            Notification::Ours => return Vec::new(),
            Notification::Added(to) => (to, true),
            Notification::Deleted(to) => (to, false),
        };
        let suspected = |scope: &Prefix| match &self.suspects {
            Suspects::All => true,
            Suspects::Some(scopes) => scopes.contains(scope),
        };
        (0..=to.len())
            .map(|len| Prefix::around(to.addr(), len))
            .filter(|scope| self.of(*scope).next().is_some() && (added || suspected(scope)))
            .collect()
    }
}

/// The blocks that these routes make. Two routes to one scope are left by who was killed between the new one and the old, and
/// routes of another kind by other flags: both are put again.
fn entries(routes: &BTreeSet<Blackhole>, reject: bool) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::with_capacity(routes.len());
    for route in routes {
        let until = end(route.metric);
        match entries.last_mut().filter(|last| last.scope == route.scope) {
            // They are in the order of their ends.
            Some(last) => (last.until, last.damaged) = (until, true),
            None => entries
                .push(Entry { damaged: route.reject != reject, ..Entry::new(route.scope, until, None) }),
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(scope: &str, metric: u32, reject: bool) -> Blackhole {
        Blackhole { scope: scope.parse().unwrap(), metric, reject }
    }

    #[test]
    fn two_routes_to_one_scope_and_routes_of_another_kind_are_damaged() {
        let routes = BTreeSet::from([
            route("192.0.2.7", 100, false),
            route("192.0.2.8", 200, false),
            route("192.0.2.8", 100, false),
            route("2001:db8::/64", u32::MAX, true),
        ]);
        let at = |second| Timestamp::from_secs(second);
        let want =
            [("192.0.2.7", at(100), false), ("192.0.2.8", at(200), true), ("2001:db8::/64", None, true)].map(
                |(scope, until, damaged)| Entry {
                    damaged,
                    ..Entry::new(scope.parse().unwrap(), until, None)
                },
            );
        assert_eq!(entries(&routes, false), want);
    }

    /// Opens sockets, and asks for nothing.
    #[test]
    fn a_route_of_others_concerns_the_scopes_around_it() {
        let mut backend = Route::open(Reach::default()).unwrap();
        for scope in ["198.51.100.0/24", "198.51.100.7", "2001:db8::/64"] {
            backend.ours.insert(route(scope, 5, false));
        }
        backend.suspects = Suspects::Some(HashSet::from(["198.51.100.7".parse().unwrap()]));
        let affected =
            |other: Notification| backend.affected(other).iter().map(Prefix::to_string).collect::<Vec<_>>();
        let added = |to: &str| affected(Notification::Added(to.parse().unwrap()));
        assert_eq!(added("198.51.100.0/25"), ["198.51.100.0/24"]);
        assert_eq!(added("198.51.100.7"), ["198.51.100.0/24", "198.51.100.7/32"]);
        assert_eq!(added("2001:db8::/64"), ["2001:db8::/64"]);
        assert!(added("198.51.0.0/16").is_empty() && added("203.0.113.0/24").is_empty());
        // Only a scope that has another route before it can gain by a deletion.
        let deleted = |to: &str| affected(Notification::Deleted(to.parse().unwrap()));
        assert_eq!(deleted("198.51.100.7"), ["198.51.100.7/32"]);
        assert!(deleted("198.51.100.0/25").is_empty());
    }
}
