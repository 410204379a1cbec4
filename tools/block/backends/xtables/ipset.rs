//! Blocks as entries of ipset's sets, one for each family and one more for single ports, matched by rules at the top of
//! INPUT and FORWARD. The kernel ends them.

use std::collections::{HashMap, HashSet};
use std::thread;
use std::time::Duration;

use netlink_sys::protocols::NETLINK_NETFILTER;
use psentry_kernel::{Error as Below, Link, Program};
use psentry_records::{Prefix, Timestamp};

use super::super::{SOMEBODY, installed};
use super::batches::{by_family, halving};
use super::book::{self, Book, Decision};
use super::header::{self, Header};
use super::lines::{Element, LONGEST, Times, add, element, is_of_ports, set, set_of_ports};
use super::matches::{is_ours, rules_of};
use super::order::Order;
use super::place::{BUILTIN, Placing};
use super::rules::{Rule, Rules};
use super::{Filter, LOOK, lock};
use crate::backend::{Backend, Change, Count, Effect, Entry, Noticed, Wish};
use crate::error::Error;
use crate::extent::{Extent, Ports};

const NAME: &str = "ipset";

/// How many entries a set holds.
const SIZE: u32 = 262_144;

/// How far an entry's end may be from its note: both are whole seconds.
const SLACK: Duration = Duration::from_secs(2);

/// How long a set may still be in use after the last rule that matched it is gone.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// The backend.
pub(crate) struct Ipset {
    ipset: Program,
    filters: Vec<Filter>,
    extent: Extent,
    /// Whether single ports are shut, or an earlier run did so.
    ports: bool,
    link: Link,
    book: Option<Book>,
    order: Order,
    /// What the sets of each family were like when it was last looked.
    seen: [Seen; 2],
}

/// What was seen of the sets of a family, and how many blocks should have stood then.
#[derive(Clone, Copy, Default, PartialEq)]
struct Seen {
    whole: Header,
    ports: Header,
    should: usize,
}

/// What stands of each scope, with the sets that it is in.
type Standing = HashMap<Prefix, Vec<(&'static str, Element)>>;

impl Ipset {
    pub(crate) fn find(extent: Extent) -> Result<Self, Error> {
        Ok(Ipset {
            ipset: installed(NAME, NAME)?,
            filters: Filter::find(NAME)?,
            extent,
            ports: extent.ports == Ports::Probed,
            link: Link::open(NETLINK_NETFILTER)?,
            book: None,
            order: Order::default(),
            seen: [Seen::default(); 2],
        })
    }

    /// The sets of a family.
    fn sets(&self, ipv4: bool) -> impl Iterator<Item = &'static str> + use<> {
        [Some(set(ipv4)), self.ports.then(|| set_of_ports(ipv4))].into_iter().flatten()
    }

    /// What the kernel says of a set.
    fn header(&mut self, name: &str) -> Result<Option<Header>, Error> {
        header::ask(&mut self.link, name).map_err(not_permitted)
    }

    /// Makes sets and rules of a family, as far as they are missing, and takes away rules that other flags made; whether
    /// something had to be done.
    fn set_up(&mut self, at: usize) -> Result<bool, Error> {
        let Some(ipv4) = self.filters.get(at).map(|filter| filter.ipv4) else { return Ok(false) };
        // What another psentry-block shuts stays shut.
        self.ports |= self.header(set_of_ports(ipv4))?.is_some();
        let mut missing = false;
        for name in self.sets(ipv4) {
            if self.header(name)?.is_none() {
                missing = true;
                let kind = if is_of_ports(name) { "hash:net,port" } else { "hash:net" };
                let (family, size) = (if ipv4 { "inet" } else { "inet6" }, SIZE.to_string());
                let flags = [kind, "family", family, "timeout", "0", "maxelem", &size, "comment"];
                self.run(&[&["-exist", "create", name], &flags[..]].concat(), b"")?;
            }
        }
        let Some(filter) = self.filters.get(at) else { return Ok(missing) };
        let rules = filter.rules()?;
        self.order.look(filter, &rules, |rule| is_ours(rule, ipv4));
        let Placing { commands, gone } = self.placing(filter, &rules)?;
        filter.change(&commands)?;
        filter.restore_ground(gone.into_iter())?;
        Ok(missing || !commands.is_empty())
    }

    /// The rules that should match a family's sets in a builtin chain.
    fn wanted(&self, ipv4: bool, chain: &str) -> Vec<String> {
        let sets: Vec<&str> = self.sets(ipv4).collect();
        rules_of(self.extent, ipv4, chain, &sets)
    }

    /// What makes the rules what the flags say.
    fn placing<'a>(&self, filter: &Filter, rules: &'a Rules) -> Result<Placing<'a>, Error> {
        let mut placing = Placing::default();
        for chain in BUILTIN {
            let wanted = self.wanted(filter.ipv4, chain);
            placing.commands.extend(filter.place(rules, chain, &wanted, |rule| is_ours(rule, filter.ipv4))?);
            if wanted.is_empty() {
                let ours = rules.chain(chain).filter(|rule| is_ours(rule, filter.ipv4));
                placing.gone.extend(ours.map(|rule| (chain, rule)));
            }
        }
        Ok(placing)
    }

    fn run(&self, args: &[&str], input: &[u8]) -> Result<Vec<u8>, Error> {
        self.ipset.run_well(args, input).map_err(|error| match error {
            Below::Program { said, .. } if said.contains("Operation not permitted") => {
                Error::NotPermitted { backend: NAME }
            }
            error => error.into(),
        })
    }

    /// What a set holds; `None`: there is no such set.
    fn elements(&self, set: &str, now: Timestamp) -> Result<Option<Vec<Element>>, Error> {
        match self.run(&["save", set], b"") {
            Ok(saved) => {
                let saved = String::from_utf8_lossy(&saved);
                Ok(Some(saved.lines().filter_map(|line| element(line, now)).collect()))
            }
            Err(Error::System(Below::Program { said, .. })) if said.contains("does not exist") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What the sets of a family hold, each with its set.
    fn all(&self, ipv4: bool, now: Timestamp) -> Result<Vec<(&'static str, Element)>, Error> {
        let mut found = Vec::new();
        for set in [set(ipv4), set_of_ports(ipv4)] {
            let elements = self.elements(set, now)?.unwrap_or_default();
            found.extend(elements.into_iter().map(|element| (set, element)));
        }
        Ok(found)
    }

    fn make(
        &self,
        ipv4: bool,
        standing: &Standing,
        changes: &[&Change],
        now: Timestamp,
    ) -> Result<Vec<Effect>, Error> {
        let mut script = String::new();
        let mut effects = Vec::with_capacity(changes.len());
        for change in changes {
            let mut effect = Effect::WasNotThere;
            match &change.wish {
                Wish::Block(block) => {
                    script.push_str(&add(ipv4, change.scope, block, now));
                    effect = Effect::Done;
                }
                Wish::Release(_) => {
                    for (set, Element { key, .. }) in standing.get(&change.scope).into_iter().flatten() {
                        script.push_str(&format!("del {set} {key}\n"));
                        effect = Effect::Done;
                    }
                }
            }
            effects.push(effect);
        }
        if !script.is_empty() {
            self.run(&["-exist", "restore"], script.as_bytes())?;
        }
        Ok(effects)
    }

    fn apply_family(
        &mut self,
        ipv4: bool,
        changes: &[&Change],
        now: Timestamp,
    ) -> Vec<Result<Effect, Error>> {
        let Some(at) = self.filters.iter().position(|filter| filter.ipv4 == ipv4) else {
            return changes.iter().map(|_| Err(Filter::absent(ipv4))).collect();
        };
        let blocks = changes.iter().any(|change| change.block().is_some());
        // A set that no rule matches blocks nobody: whoever flushed INPUT took the rule away.
        let releases = changes.iter().any(|change| change.block().is_none());
        let mut ready = || -> Result<Standing, Error> {
            if blocks {
                self.set_up(at)?;
            }
            let mut standing = Standing::new();
            // `del` does not tell whether there was something.
            for (set, element) in if releases { self.all(ipv4, now)? } else { Vec::new() } {
                standing.entry(element.entry.scope).or_default().push((set, element));
            }
            Ok(standing)
        };
        match ready() {
            Ok(standing) => halving(changes, &mut |changes| self.make(ipv4, &standing, changes, now)),
            Err(error) => changes.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    /// Whether the sets of a family are as they should be.
    fn look_at(&mut self, at: usize, should: usize, noticed: &mut Noticed) -> Result<(), Error> {
        let Some(ipv4) = self.filters.get(at).map(|filter| filter.ipv4).filter(|_| should > 0) else {
            return Ok(());
        };
        let somebody = || Some(SOMEBODY.to_owned());
        let mut now_seen = Seen { should, ..Seen::default() };
        for name in self.sets(ipv4) {
            let Some(header) = self.header(name)? else {
                noticed.damaged = somebody();
                return Ok(());
            };
            // A rule of ours is gone, or as many of others have come.
            let wanted = BUILTIN.iter().flat_map(|chain| self.wanted(ipv4, chain));
            let wanted = wanted.filter(|rule| rule.split(' ').any(|word| word == name)).count();
            if (header.references as usize) < wanted {
                noticed.damaged = somebody();
            }
            *if is_of_ports(name) { &mut now_seen.ports } else { &mut now_seen.whole } = header;
        }
        let Some(seen) = self.seen.get_mut(usize::from(!ipv4)) else { return Ok(()) };
        let before = std::mem::replace(seen, now_seen);
        let references = |seen: Seen| (seen.whole.references, seen.ports.references);
        if references(before) != references(now_seen)
            && let Some(filter) = self.filters.get(at)
            && !self.placing(filter, &filter.rules()?)?.commands.is_empty()
        {
            noticed.damaged = somebody();
        }
        // Of whom single ports are shut there are as many entries as ports: they are counted only when they change.
        let enough = now_seen.whole.entries as usize >= should || (self.ports && before == now_seen);
        if noticed.damaged.is_some() || enough {
            return Ok(());
        }
        let stand = self.all(ipv4, Timestamp::now())?;
        let scopes: HashSet<Prefix> = stand.iter().map(|(_, element)| element.entry.scope).collect();
        // Counted before the last of them was put in.
        if scopes.len() >= should {
            return Ok(());
        }
        // Whoever loads what he saved a while ago brings back old times with it.
        let is_old = |(kernel, noted): &Times| {
            matches!((kernel, noted), (None, Some(_)))
                || kernel.zip(*noted).is_some_and(|(kernel, noted)| kernel.since(noted) > SLACK)
        };
        let emptied = stand.is_empty() && should > 1;
        if emptied || stand.iter().any(|(_, element)| is_old(&element.times)) {
            noticed.damaged = somebody();
        } else {
            noticed.edited = somebody();
        }
        Ok(())
    }

    /// Waits until no packet is on its way through a rule that is gone.
    fn destroy(&self, name: &str) -> Result<(), Error> {
        let mut tries = 0;
        loop {
            match self.run(&["destroy", name], b"") {
                Err(Error::System(Below::Program { said, .. }))
                    if said.contains("in use") && tries < TRIES =>
                {
                    tries += 1;
                    thread::sleep(PAUSE);
                }
                result => return result.map(drop),
            }
        }
    }
}

impl Backend for Ipset {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&mut self) -> Result<Vec<Entry>, Error> {
        let lock = lock()?;
        self.book = Some(Book::open(&lock)?);
        for at in 0..self.filters.len() {
            self.set_up(at)?;
        }
        self.list()
    }

    fn apply(&mut self, changes: &[Change], now: Timestamp) -> Vec<Result<Effect, Error>> {
        let lock = match lock() {
            Ok(lock) => lock,
            Err(error) => return changes.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut effects = by_family(changes, |ipv4, changes| self.apply_family(ipv4, changes, now));
        if self.book.is_none() {
            book::write_released(&lock, NAME, changes, &mut effects);
        }
        effects
    }

    fn list(&mut self) -> Result<Vec<Entry>, Error> {
        let mut found = Vec::new();
        for ipv4 in [true, false] {
            found.extend(self.all(ipv4, Timestamp::now())?.into_iter().map(|(_, element)| element.entry));
        }
        Ok(Entry::gather(found))
    }

    fn noticed(&mut self) -> Result<Noticed, Error> {
        Ok(Noticed { told: self.order.take(), ..Noticed::default() })
    }

    fn look_every(&self) -> Option<Duration> {
        Some(LOOK)
    }

    fn look(&mut self, should: Count) -> Result<Noticed, Error> {
        let lock = lock()?;
        let mut noticed = Noticed::default();
        if let Some(book) = &mut self.book {
            noticed = book.decided(&lock, NAME)?;
        }
        if noticed.cleared.is_some() {
            // Nothing is left behind, not even the lock.
            lock.remove();
            return Ok(noticed);
        }
        for at in 0..self.filters.len() {
            let ipv4 = self.filters.get(at).is_some_and(|filter| filter.ipv4);
            self.look_at(at, should.of(ipv4), &mut noticed)?;
        }
        Ok(noticed)
    }

    fn mend(&mut self, scopes: &[Prefix]) -> Result<bool, Error> {
        let _lock = lock()?;
        let mut missing = false;
        for at in 0..self.filters.len() {
            let ipv4 = self.filters.get(at).is_some_and(|filter| filter.ipv4);
            if scopes.iter().any(|scope| scope.is_ipv4() == ipv4) {
                missing |= self.set_up(at)?;
            }
        }
        Ok(missing)
    }

    fn remove(&mut self) -> Result<Vec<Entry>, Error> {
        let lock = lock()?;
        let mut found = Vec::new();
        for filter in &self.filters {
            let rules = filter.rules()?;
            let ours: Vec<(&str, &Rule)> = BUILTIN
                .into_iter()
                .flat_map(|chain| rules.chain(chain).map(move |rule| (chain, rule)))
                .filter(|(_, rule)| is_ours(rule, filter.ipv4))
                .collect();
            let commands: Vec<String> = ours.iter().map(|(_, rule)| rule.deletion()).collect();
            filter.change(&commands)?;
            filter.restore_ground(ours.into_iter())?;
            for name in [set(filter.ipv4), set_of_ports(filter.ipv4)] {
                if let Some(elements) = self.elements(name, Timestamp::now())? {
                    found.extend(elements.into_iter().map(|element| element.entry));
                    self.destroy(name)?;
                }
            }
        }
        book::write(&lock, NAME, &[Decision::Flush])?;
        lock.remove();
        Ok(Entry::gather(found))
    }

    fn ends_by_itself(&self) -> bool {
        true
    }

    fn longest(&self) -> Option<Duration> {
        Some(Duration::from_secs(LONGEST))
    }
}

fn not_permitted(error: Error) -> Error {
    match error {
        Error::System(error) if error.is_permission() => Error::NotPermitted { backend: NAME },
        error => error,
    }
}
