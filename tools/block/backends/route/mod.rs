//! Blocks as blackhole routes: what this machine sends to the source goes nowhere, so that no connection comes
//! about. Packets still arrive. Where the answer is a rejection the routes say so: to programs of this machine, and to
//! whoever it forwards packets for. The number of the routing protocol says that a route is ours, its metric says
//! when it ends, so that a later psentry-block knows both.

mod message;

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteScope, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;
use psentry_kernel::watch::{IPV4_ROUTES, IPV6_ROUTES};
use psentry_kernel::{Error as Below, Link, Watch, is_psentry};
use psentry_records::{Prefix, Timestamp};

use self::message::{Hole, deleted, end, family, header, hole, hosts, leads_nowhere, message, metric};
use super::SOMEBODY;
use crate::backend::{Backend, Block, Change, Effect, Entry, Noticed, Wish};
use crate::error::Error;
use crate::extent::{Answer, Extent};

const NAME: &str = "route";

/// What the kernel answers of an address to which a blackhole leads, or nothing at all.
const NOWHERE: [Errno; 4] = [Errno::EINVAL, Errno::EHOSTUNREACH, Errno::EACCES, Errno::ENETUNREACH];

/// The backend.
pub(super) struct Route {
    link: Link,
    watch: Option<Watch>,
    /// Whether whoever sends to a source is told.
    told: bool,
}

impl Route {
    pub(super) fn open(extent: Extent) -> Result<Self, Error> {
        let mut link = Link::open(NETLINK_ROUTE)?;
        link.filter_dumps();
        Ok(Route { link, watch: None, told: extent.answer == Answer::Reject })
    }

    /// Our routes of one family.
    fn holes(&mut self, family: AddressFamily) -> Result<Vec<Hole>, Error> {
        let doing = "list blackhole routes";
        let mut question = RouteMessage::default();
        question.header = header(family);
        // The kernel filters; what it sends beyond that is passed over below.
        question.header.scope = RouteScope::Universe;
        question.header.kind = RouteType::Unspec;
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
        let hole = Hole { scope, metric: metric(block.until), told: self.told };
        self.put(hole, standing)?;
        if let Err(error) = self.confirm(scope) {
            // What has no effect is not left standing either.
            self.delete(hole)?;
            return Err(error);
        }
        for old in standing.iter().filter(|old| old.metric != hole.metric) {
            self.delete(*old)?;
        }
        Ok(Effect::Done)
    }

    /// Puts a route in place, or in the place of one of another kind.
    fn put(&mut self, hole: Hole, standing: &[Hole]) -> Result<(), Error> {
        if standing.contains(&hole) {
            return Ok(());
        }
        let doing = "add a blackhole route";
        let other_kind = standing.iter().any(|old| old.metric == hole.metric);
        let how = if other_kind { NLM_F_REPLACE } else { NLM_F_EXCL };
        let message = RouteNetlinkMessage::NewRoute(message(hole));
        let done = self.link.ask(doing, message, NLM_F_CREATE | how)?;
        done.map_err(|errno| refused(doing, errno))
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
                RouteNetlinkMessage::NewRoute(route) => leads_nowhere(route.header.kind),
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

impl Backend for Route {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&mut self) -> Result<Vec<Entry>, Error> {
        // Deleting what cannot be there changes nothing, and tells whether changing is allowed.
        let nobody = Hole { scope: Prefix::around([0, 0, 0, 0].into(), 32), metric: 1, told: false };
        self.delete(nobody)?;
        // What other flags made is made anew.
        for old in self.all()? {
            self.put(Hole { told: self.told, ..old }, &[old])?;
        }
        self.watch = Some(Watch::open(NETLINK_ROUTE, &[IPV4_ROUTES, IPV6_ROUTES])?);
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

    fn watch(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(Watch::as_fd)
    }

    /// A route that goes without a word of psentry is put back: routing daemons take away what they do not know one
    /// by one, and the kernel does not say who it was.
    fn noticed(&mut self) -> Result<Noticed, Error> {
        let mut noticed = Noticed::default();
        let Some(watch) = &mut self.watch else { return Ok(noticed) };
        let own = self.link.port();
        let heard = watch.hear(|header, body| match deleted(header, body) {
            Some(_) if header.port_number == own => {}
            Some(hole) if is_psentry(header.port_number) => {
                noticed.let_in.push((hole.scope, "'psentry-block'".to_owned()));
            }
            Some(_) => noticed.damaged = Some(SOMEBODY.to_owned()),
            None => {}
        });
        match heard {
            Ok(heard) if heard.lost => noticed.damaged = Some(SOMEBODY.to_owned()),
            Ok(_) => {}
            Err(error) => {
                self.watch = None;
                return Err(error.into());
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
}

fn refused(doing: &'static str, errno: Errno) -> Error {
    match errno {
        Errno::EPERM | Errno::EACCES => Error::NotPermitted { backend: NAME },
        errno => Below::Refused { doing, errno }.into(),
    }
}
