//! Blocks as blackhole routes: what this machine sends to the source goes nowhere, so that no connection comes
//! about. Packets still arrive. Where the answer is a rejection the routes say so: to programs of this machine, and to
//! whoever it forwards packets for. The number of the routing protocol says that a route is ours, its metric says
//! when it ends, so that a later psentry-block knows both.

mod holding;
mod holes;
mod message;

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;
use psentry_linux::netlink_monitor::{RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE};
use psentry_linux::{Error as Below, NetlinkMonitor, NetlinkSocket, is_psentry_portid};
use psentry_records::{Prefix, Timestamp};

use self::holding::beaten_by;
use self::message::{Hole, deleted, end, metric, rival};
use super::SOMEBODY;
use crate::backend::{Backend, Change, Effect, Entry, Noticed, Wish};
use crate::error::Error;
use crate::reach::{Answer, Reach};

const NAME: &str = "route";

/// The backend.
pub(super) struct Route {
    link: NetlinkSocket,
    watch: Option<NetlinkMonitor>,
    /// Whether whoever sends to a source is told.
    told: bool,
    /// Why nothing is told of changes, until that is told.
    unheard: Option<Error>,
    /// Whom we cut off, as far as we know: a hint, so that not every route of others is looked at closer.
    ours: HashSet<Prefix>,
    /// Of whom it has been told that a route of others beats ours.
    beaten: HashSet<Prefix>,
}

impl Route {
    pub(super) fn open(reach: Reach) -> Result<Self, Error> {
        let mut link = NetlinkSocket::open(NETLINK_ROUTE)?;
        link.set_strict_check();
        let (ours, beaten) = (HashSet::new(), HashSet::new());
        let told = reach.answer == Answer::Reject;
        Ok(Route { link, watch: None, told, unheard: None, ours, beaten })
    }
}

impl Backend for Route {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&mut self) -> Result<Vec<Entry>, Error> {
        // Deleting what cannot be there changes nothing, and tells whether changing is allowed.
        let nobody = Hole { scope: Prefix::around([0, 0, 0, 0].into(), 32), metric: 1, told: false };
        self.delete(nobody)?;
        // What other flags made is made anew.
        let old = self.all()?.into_iter().filter(|old| old.told != self.told);
        let anew: Vec<_> = old.map(|old| (Hole { told: self.told, ..old }, vec![old])).collect();
        self.put(&anew).into_iter().collect::<Result<Vec<_>, _>>()?;
        let watch = NetlinkMonitor::open(NETLINK_ROUTE, &[RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE]);
        self.watch = watch.map_err(|error| self.unheard = Some(error.into())).ok();
        let found = self.list()?;
        self.ours = found.iter().map(|entry| entry.scope).collect();
        Ok(found)
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
        let mut blocks = Vec::new();
        for Change { scope, wish } in changes {
            self.beaten.remove(scope);
            if let Wish::Block(block) = wish {
                let hole = Hole { scope: *scope, metric: metric(block.until), told: self.told };
                blocks.push((hole, by_scope.remove(scope).unwrap_or_default()));
            }
        }
        let mut blocked = self.block(&blocks).into_iter();
        let mut effects = Vec::with_capacity(changes.len());
        for Change { scope, wish } in changes {
            let effect = match wish {
                Wish::Block(_) => blocked.next().unwrap_or(Ok(Effect::Done)),
                Wish::Release(_) => self.release(&by_scope.remove(scope).unwrap_or_default()),
            };
            match (wish, &effect) {
                (Wish::Block(_), Ok(_)) => _ = self.ours.insert(*scope),
                (Wish::Release(_), Ok(_)) => _ = self.ours.remove(scope),
                _ => {}
            }
            effects.push(effect);
        }
        effects
    }

    fn list(&mut self) -> Result<Vec<Entry>, Error> {
        let entry = |hole: Hole| Entry::new(hole.scope, end(hole.metric), None);
        // Two of one scope are left by who was stopped between the new one and the old.
        Ok(Entry::gather(self.all()?.into_iter().map(entry)))
    }

    fn watch(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(NetlinkMonitor::as_fd)
    }

    /// A route that goes without a word of psentry is put back: routing daemons take away what they do not know one
    /// by one, and the kernel does not say who it was.
    fn noticed(&mut self) -> Result<Noticed, Error> {
        if let Some(error) = self.unheard.take() {
            return Err(error);
        }
        let mut noticed = Noticed::default();
        let Some(watch) = &mut self.watch else { return Ok(noticed) };
        let (own, ours, mut rivals) = (self.link.portid(), &self.ours, HashSet::new());
        let heard = watch.receive(|header, body| {
            if header.port_number == own {
                return;
            }
            match deleted(header, body) {
                Some(hole) if is_psentry_portid(header.port_number) => {
                    noticed.let_in.push((hole.scope, "'psentry-block'".to_owned()));
                }
                Some(_) => noticed.damaged = Some(SOMEBODY.to_owned()),
                None => rivals.extend(rival(header, body).into_iter().flat_map(|to| beaten_by(to, ours))),
            }
        });
        match heard {
            Ok(heard) if heard.lost => noticed.damaged = Some(SOMEBODY.to_owned()),
            Ok(_) => {}
            Err(error) => {
                self.watch = None;
                return Err(error.into());
            }
        }
        for scope in rivals {
            if !self.beaten.contains(&scope)
                && let Err(Error::NoEffect(why)) = self.confirm(scope)
            {
                self.beaten.insert(scope);
                noticed.told.push(format!("{scope} is not cut off any more: {why}"));
            }
        }
        Ok(noticed)
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

    /// Whatever this machine answers goes nowhere, on whichever connection.
    fn spares(&self) -> bool {
        false
    }

    /// All routes are read before some are changed.
    fn at_once(&self) -> usize {
        20_000
    }
}

fn refused(doing: &'static str, errno: Errno) -> Error {
    match errno {
        Errno::EPERM | Errno::EACCES => Error::NotPermitted { backend: NAME },
        errno => Below::Refused { doing, errno }.into(),
    }
}
