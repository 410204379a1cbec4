//! Blocks as entries of two sets of ipset, matched by one rule each at the top of INPUT. The kernel ends them.

use std::collections::HashSet;
use std::thread;
use std::time::Duration;

use netlink_sys::protocols::NETLINK_NETFILTER;
use psentry_kernel::{Error as Below, Link, Program};
use psentry_records::{Prefix, Timestamp};

use super::super::{SOMEBODY, installed};
use super::batches::{by_family, halving};
use super::book::{self, Book, Decision};
use super::header::{self, Header};
use super::lines::{LONGEST, Times, add, entry, set};
use super::order::Order;
use super::rules::Rule;
use super::{Filter, LOOK, lock};
use crate::backend::{Backend, Change, Count, Effect, Entry, Noticed, Wish};
use crate::error::Error;

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
    link: Link,
    book: Option<Book>,
    order: Order,
    /// How many rules matched the set of each family when it was last looked.
    references: [u32; 2],
}

impl Ipset {
    pub(crate) fn find() -> Result<Self, Error> {
        Ok(Ipset {
            ipset: installed(NAME, NAME)?,
            filters: Filter::find(NAME)?,
            link: Link::open(NETLINK_NETFILTER)?,
            book: None,
            order: Order::default(),
            references: [0; 2],
        })
    }

    /// Makes set and rule of a family, as far as they are missing; whether one was.
    fn set_up(&mut self, at: usize) -> Result<bool, Error> {
        let Some(filter) = self.filters.get(at) else { return Ok(false) };
        let (name, family) = (set(filter.ipv4), if filter.ipv4 { "inet" } else { "inet6" });
        let there = header::ask(&mut self.link, name).map_err(not_permitted)?.is_some();
        if !there {
            let size = SIZE.to_string();
            let kind = ["hash:net", "family", family, "timeout", "0", "maxelem", &size, "comment"];
            self.run(&[&["-exist", "create", name], &kind[..]].concat(), b"")?;
        }
        let rules = filter.rules()?;
        let ours = |rule: &Rule| matches(rule, name);
        self.order.look(filter, &rules, ours);
        let commands = filter.jump(&rules, &format!("-m set --match-set {name} src -j DROP"), ours)?;
        filter.change(&commands)?;
        Ok(!there || !commands.is_empty())
    }

    fn run(&self, args: &[&str], input: &[u8]) -> Result<Vec<u8>, Error> {
        self.ipset.run_well(args, input).map_err(|error| match error {
            Below::Program { said, .. } if said.contains("Operation not permitted") => {
                Error::NotPermitted { backend: NAME }
            }
            error => error.into(),
        })
    }

    /// What the set of a family holds; without a set, nothing.
    fn entries(&self, ipv4: bool) -> Result<Option<Vec<Entry>>, Error> {
        let saved = self.saved(ipv4, Timestamp::now())?;
        Ok(saved.map(|saved| saved.into_iter().map(|(entry, _)| entry).collect()))
    }

    /// As above, each with both its ends.
    fn saved(&self, ipv4: bool, now: Timestamp) -> Result<Option<Vec<(Entry, Times)>>, Error> {
        match self.run(&["save", set(ipv4)], b"") {
            Ok(saved) => {
                let saved = String::from_utf8_lossy(&saved);
                Ok(Some(saved.lines().filter_map(|line| entry(line, now)).collect()))
            }
            Err(Error::System(Below::Program { said, .. })) if said.contains("does not exist") => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn make(
        &self,
        ipv4: bool,
        standing: &HashSet<Prefix>,
        changes: &[&Change],
        now: Timestamp,
    ) -> Result<Vec<Effect>, Error> {
        let mut script = String::new();
        let mut effects = Vec::with_capacity(changes.len());
        for change in changes {
            effects.push(match &change.wish {
                Wish::Block(block) => {
                    script.push_str(&add(ipv4, change.scope, block, now));
                    Effect::Done
                }
                Wish::Release(_) if standing.contains(&change.scope) => {
                    script.push_str(&format!("del {} {}\n", set(ipv4), change.scope));
                    Effect::Done
                }
                Wish::Release(_) => Effect::WasNotThere,
            });
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
        let mut ready = || -> Result<HashSet<Prefix>, Error> {
            if blocks {
                self.set_up(at)?;
            }
            // `del` does not tell whether there was something.
            let standing = if releases { self.entries(ipv4)? } else { None };
            Ok(standing.into_iter().flatten().map(|entry| entry.scope).collect())
        };
        match ready() {
            Ok(standing) => halving(changes, &mut |changes| self.make(ipv4, &standing, changes, now)),
            Err(error) => changes.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    /// Whether the set of a family is as it should be.
    fn look_at(&mut self, at: usize, should: usize, noticed: &mut Noticed) -> Result<(), Error> {
        let Some(filter) = self.filters.get(at).filter(|_| should > 0) else { return Ok(()) };
        let (ipv4, name) = (filter.ipv4, set(filter.ipv4));
        let somebody = || Some(SOMEBODY.to_owned());
        let Some(Header { entries, references }) = header::ask(&mut self.link, name)? else {
            noticed.damaged = somebody();
            return Ok(());
        };
        if let Some(before) = self.references.get_mut(usize::from(!ipv4))
            && std::mem::replace(before, references) > references
            && !filter.rules()?.chain("INPUT").any(|rule| matches(rule, name))
        {
            noticed.damaged = somebody();
        }
        if references == 0 {
            noticed.damaged = somebody();
        }
        if noticed.damaged.is_some() || entries as usize >= should {
            return Ok(());
        }
        let now = Timestamp::now();
        let stand = self.saved(ipv4, now)?.unwrap_or_default();
        // Counted before the last of them was put in.
        if stand.len() >= should {
            return Ok(());
        }
        // Whoever loads what he saved a while ago brings back old times with it.
        let is_old = |(kernel, noted): &Times| {
            matches!((kernel, noted), (None, Some(_)))
                || kernel.zip(*noted).is_some_and(|(kernel, noted)| kernel.since(noted) > SLACK)
        };
        let emptied = stand.is_empty() && should > 1;
        if emptied || stand.iter().any(|(_, times)| is_old(times)) {
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
            found.extend(self.entries(ipv4)?.unwrap_or_default());
        }
        Ok(found)
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
            let name = set(filter.ipv4);
            let rules = filter.rules()?;
            let ours: Vec<&Rule> = rules.chain("INPUT").filter(|rule| matches(rule, name)).collect();
            let commands: Vec<String> = ours.iter().map(|rule| rule.deletion()).collect();
            filter.change(&commands)?;
            filter.restore_ground(&Filter::marks(ours.into_iter()))?;
            if let Some(entries) = self.entries(filter.ipv4)? {
                found.extend(entries);
                self.destroy(name)?;
            }
        }
        book::write(&lock, NAME, &[Decision::Flush])?;
        lock.remove();
        Ok(found)
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

fn matches(rule: &Rule, set: &str) -> bool {
    rule.value("--match-set") == Some(set) && rule.target() == Some("DROP")
}
