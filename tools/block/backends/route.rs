//! Blocks as blackhole routes: what this machine sends to the source goes nowhere, so that no connection comes about. Packets
//! still arrive, and nothing of an established connection is spared. Where the answer is to be a rejection, the routes give
//! one: to programs of this machine, and to those for whom it forwards. A route says itself whose it is and when it ends; the
//! kernel does not delete it then.
//!
//! Another route may stand before ours: a more specific one, or one with a lower metric. `apply` refuses such a block, and
//! `list` reports it where the other route came later. A rule of policy routing (ip-rule(8)) that came later is not seen.

use std::collections::{BTreeSet, HashSet};
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::protocols::NETLINK_ROUTE;
use psentry_linux::netlink_monitor::{RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE};
use psentry_linux::{
    Blackhole, BlackholeRoutes, NetlinkMonitor, RouteNotification, decode_notification, metric,
};
use psentry_records::{Prefix, Timestamp};

use super::failed;
use crate::backend::{Backend, Caps, Drift, Listing, Op};
use crate::block::Entry;
use crate::error::Error;
use crate::reach::{Answer, Reach};

const NAME: &str = "route";

/// The backend.
pub(super) struct Route {
    table: BlackholeRoutes,
    monitor: Option<NetlinkMonitor>,
    /// Whether the routes are to give an answer.
    reject: bool,
    /// Our routes, as they were listed last and have been changed by us since.
    ours: BTreeSet<Blackhole>,
    /// The scopes that the next list looks up, because routes of others around there have changed, or one stood before ours when it
    /// was listed last; `None`: all, for nobody has listened.
    suspects: Option<HashSet<Prefix>>,
}

impl Route {
    pub(super) fn open(reach: Reach) -> Result<Self, Error> {
        let (table, reject) = (BlackholeRoutes::open()?, reach.answer == Answer::Reject);
        Ok(Route { table, monitor: None, reject, ours: BTreeSet::new(), suspects: None })
    }

    /// The new route first, then the old ones go: a source that is blocked already is so at every moment.
    fn put(&mut self, new: Blackhole, was: Option<&Entry>) -> Result<(), Error> {
        self.table.add(new).map_err(failed(NAME))?;
        let beaten = self.beaten(new.scope);
        if !matches!(beaten, Ok(None)) {
            // What blocks nobody must not look like a block.
            self.table.delete(new.scope, Some(new.metric)).map_err(failed(NAME))?;
        }
        if let Some(why) = beaten? {
            return Err(Error::NoEffect(why));
        }
        let listed = self.of(new.scope).map(|old| old.metric);
        let old: BTreeSet<u32> = listed.chain(was.map(|was| metric(was.until))).collect();
        for metric in old.into_iter().filter(|metric| *metric != new.metric) {
            self.table.delete(new.scope, Some(metric)).map_err(failed(NAME))?;
        }
        self.forget(new.scope);
        self.ours.insert(new);
        Ok(())
    }

    /// Why our route to a scope has no effect, if another one stands before it.
    fn beaten(&mut self, scope: Prefix) -> Result<Option<String>, Error> {
        let reachable = self.table.find_reachable(scope).map_err(failed(NAME))?;
        Ok(reachable.map(|addr| {
            format!(
                "another route to {addr} takes precedence over the blackhole; 'ip route get {addr}' shows it"
            )
        }))
    }

    fn delete(&mut self, scope: Prefix) -> Result<(), Error> {
        // A request deletes one route, and there may be two.
        while self.table.delete(scope, None).map_err(failed(NAME))? {}
        self.forget(scope);
        Ok(())
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

    /// Which of our scopes a route of others may stand before, or not any more: those around its destination.
    fn around(&self, to: Prefix) -> impl Iterator<Item = Prefix> {
        (0..=to.len())
            .map(move |len| Prefix::around(to.addr(), len))
            .filter(|scope| self.of(*scope).next().is_some())
    }
}

impl Backend for Route {
    fn caps(&self) -> Caps {
        Caps { expires: false, spares: false, ..Caps::of(NAME) }
    }

    fn ensure(&mut self) -> Result<bool, Error> {
        // To delete what cannot be there changes nothing, and shows whether changing is allowed.
        self.table.delete(Prefix::around([0, 0, 0, 0].into(), 32), Some(1)).map_err(failed(NAME))?;
        if self.monitor.is_none() {
            let groups = [RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE];
            self.monitor = Some(NetlinkMonitor::open(NETLINK_ROUTE, &groups)?);
            self.suspects = None;
        }
        Ok(false)
    }

    fn list(&mut self) -> Result<Listing, Error> {
        self.ours = self.table.dump().map_err(failed(NAME))?.into_iter().collect();
        let entries = entries(&self.ours, self.reject);
        let (mut beaten, mut shadowed) = (HashSet::new(), Vec::new());
        for Entry { scope, .. } in &entries {
            if self.suspects.as_ref().is_some_and(|suspects| !suspects.contains(scope)) {
                continue;
            }
            if let Some(why) = self.beaten(*scope)? {
                shadowed.push(format!("{scope} is not blocked: {why}"));
                beaten.insert(*scope);
            }
        }
        if self.monitor.is_some() {
            self.suspects = Some(beaten);
        }
        Ok(Listing { entries, shadowed })
    }

    fn apply(&mut self, ops: &[Op], _: Timestamp) -> Vec<Result<(), Error>> {
        let apply = |op: &Op| match op {
            Op::Put { scope, block, was } => {
                self.put(Blackhole::new(*scope, block.until, self.reject), was.as_ref())
            }
            Op::Delete { scope, .. } => self.delete(*scope),
        };
        ops.iter().map(apply).collect()
    }

    fn events(&self) -> Option<BorrowedFd<'_>> {
        self.monitor.as_ref().map(NetlinkMonitor::as_fd)
    }

    fn drift(&mut self) -> Result<Option<Drift>, Error> {
        let Some(monitor) = &mut self.monitor else { return Ok(None) };
        let own = self.table.portid();
        let (mut drifted, mut others) = (false, Vec::new());
        let received = monitor.receive(|header, body| match decode_notification(header, body) {
            _ if header.port_number == own => {}
            Some(RouteNotification::Ours) => drifted = true,
            Some(RouteNotification::Others(to)) => others.push(to),
            None => {}
        });
        let received = received.inspect_err(|_| self.monitor = None)?;
        let affected: HashSet<Prefix> = others.into_iter().flat_map(|to| self.around(to)).collect();
        drifted |= received.lost || !affected.is_empty();
        match &mut self.suspects {
            suspects if received.lost => *suspects = None,
            suspects => suspects.iter_mut().for_each(|suspects| suspects.extend(&affected)),
        }
        Ok(drifted.then(Drift::default))
    }

    fn purge(&mut self) -> Result<(), Error> {
        let scopes: BTreeSet<Prefix> =
            self.table.dump().map_err(failed(NAME))?.into_iter().map(|route| route.scope).collect();
        // All are tried, whatever becomes of the first.
        let results: Vec<_> = scopes.into_iter().map(|scope| self.delete(scope)).collect();
        results.into_iter().collect()
    }
}

/// The blocks that these routes make. Two routes to one scope are left by who was killed between the new one and the old, and
/// routes of another kind by other flags: both are put again.
fn entries(routes: &BTreeSet<Blackhole>, reject: bool) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::with_capacity(routes.len());
    for route in routes {
        let until = route.until();
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
        let around =
            |to: &str| backend.around(to.parse().unwrap()).map(|scope| scope.to_string()).collect::<Vec<_>>();
        assert_eq!(around("198.51.100.0/25"), ["198.51.100.0/24"]);
        assert_eq!(around("198.51.100.7"), ["198.51.100.0/24", "198.51.100.7/32"]);
        assert_eq!(around("2001:db8::/64"), ["2001:db8::/64"]);
        assert!(around("198.51.0.0/16").is_empty() && around("203.0.113.0/24").is_empty());
    }
}
