//! Blocks as entries of ipset's sets, one for each family and one more for single ports, matched by rules at the top of
//! INPUT and FORWARD. The kernel ends them.
//!
//! | | |
//! |---|---|
//! | `elements.rs` | which elements a block is |
//! | `message.rs` | how the kernel is told and tells of them |
//! | `sets.rs` | asks it |
//! | `putting.rs` | changes as steps in the sets |
//! | `matches.rs` | the rules that match the sets |
//! | `looking.rs` | whether all of it stands |

mod elements;
mod looking;
mod matches;
mod message;
mod putting;
mod sets;

use std::os::fd::BorrowedFd;
use std::time::Duration;

use psentry_records::{Prefix, Timestamp};

use self::elements::{Element, LONGEST, is_of_ports, is_unproven, sets};
use self::looking::{Seen, Stood};
pub(super) use self::matches::has_any;
use self::matches::{is_ours, rules_of};
use self::sets::Sets;
use super::book::{self, Book};
use super::families::{FAMILIES, Filters, by_family};
use super::hearing::Told;
use super::listening::Listening;
use super::order::Order;
use super::place::{BUILTIN, Placing};
use super::rules::{Rule, Rules};
use super::{Filter, LOOK, iptables, lock};
use crate::backend::{Backend, Block, Change, Count, Effect, Entry, Noticed};
use crate::error::Error;
use crate::reach::{Reach, Ports};

const NAME: &str = "ipset";

/// The backend.
pub(crate) struct Ipset {
    sets: Sets,
    filters: Filters,
    reach: Reach,
    /// Whether single ports are shut, or an earlier run did so; and of each family, whether anything that is not proven is, or
    /// was.
    ports: bool,
    unproven: [bool; 2],
    /// What others do to the rules, as nf_tables tells it, and what was heard; without it, as it is looked for.
    listening: Listening,
    heard: Told,
    book: Option<Book>,
    order: Order,
    /// What is known of the rules and sets of each family.
    stood: [Option<Stood>; 2],
    seen: [Seen; 2],
}

impl Ipset {
    pub(crate) fn find(reach: Reach) -> Result<Self, Error> {
        Ok(Ipset {
            sets: Sets::open()?,
            filters: Filters::find(NAME)?,
            reach,
            ports: reach.ports == Ports::Probed,
            unproven: [false, false],
            listening: Listening::default(),
            heard: Told::default(),
            book: None,
            order: Order::default(),
            stood: [None, None],
            seen: [Seen::default(), Seen::default()],
        })
    }

    fn has_unproven(&self, ipv4: bool) -> bool {
        self.unproven.get(usize::from(!ipv4)) == Some(&true)
    }

    /// From now on a family has sets of what is not proven. Those are missing where there were none before.
    fn expect_unproven(&mut self, ipv4: bool) {
        let at = usize::from(!ipv4);
        if let (Some(unproven @ false), Some(stood)) = (self.unproven.get_mut(at), self.stood.get_mut(at)) {
            (*unproven, *stood) = (true, None);
        }
    }

    /// The sets of a family that are in use.
    fn names(&self, ipv4: bool) -> impl Iterator<Item = &'static str> + use<> {
        let (ports, unproven) = (self.ports, self.has_unproven(ipv4));
        let used = move |set: &&str| (ports || !is_of_ports(set)) && (unproven || !is_unproven(set));
        sets(ipv4).into_iter().filter(used)
    }

    /// Makes sets and rules of a family, as far as they are missing, and takes away rules that other flags made; whether
    /// something had to be done.
    fn set_up(&mut self, ipv4: bool) -> Result<bool, Error> {
        // What another psentry-block shuts stays shut.
        for name in sets(ipv4) {
            let stands = (is_of_ports(name) || is_unproven(name)) && self.sets.header(name)?.is_some();
            self.ports |= stands && is_of_ports(name);
            if stands && is_unproven(name) {
                self.expect_unproven(ipv4);
            }
        }
        let mut missing = false;
        for name in self.names(ipv4) {
            if self.sets.header(name)?.is_none() {
                missing = true;
                self.sets.make(name, ipv4)?;
            }
        }
        let Some(filter) = self.filters.of(ipv4) else { return Ok(missing) };
        let rules = filter.rules()?;
        self.order.look(filter, &rules, |rule| is_ours(rule, ipv4));
        let Placing { commands, gone } = self.placing(filter, &rules)?;
        filter.change(&commands)?;
        filter.restore_ground(gone.into_iter())?;
        self.stands(ipv4)?;
        Ok(missing || !commands.is_empty())
    }

    /// The rules that should match a family's sets in a builtin chain.
    fn wanted(&self, ipv4: bool, chain: &str) -> Vec<String> {
        let sets: Vec<&str> = self.names(ipv4).collect();
        rules_of(self.reach, ipv4, chain, &sets)
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

    /// What the sets of a family hold.
    fn all(&mut self, ipv4: bool, now: Timestamp) -> Result<Vec<Element>, Error> {
        let mut found = Vec::new();
        for name in sets(ipv4) {
            found.extend(self.sets.elements(name, now)?.unwrap_or_default());
        }
        Ok(found)
    }
}

impl Backend for Ipset {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&mut self) -> Result<Vec<Entry>, Error> {
        let lock = lock()?;
        self.book = Some(Book::open(&lock)?);
        self.listening.begin(&self.filters)?;
        for ipv4 in self.filters.families() {
            self.set_up(ipv4)?;
        }
        self.list()
    }

    fn apply(&mut self, changes: &[Change], now: Timestamp) -> Vec<Result<Effect, Error>> {
        let lock = match lock() {
            Ok(lock) => lock,
            Err(error) => return changes.iter().map(|_| Err(error.clone())).collect(),
        };
        // What cannot be read is told by the next look.
        let _ = book::follow(&mut self.book, NAME, &lock);
        let mut effects = by_family(changes, |ipv4, changes| self.apply_family(ipv4, changes, now));
        if self.book.is_none() {
            book::write_released(&lock, NAME, changes, &mut effects);
        }
        effects
    }

    fn list(&mut self) -> Result<Vec<Entry>, Error> {
        let mut found = Vec::new();
        for ipv4 in FAMILIES {
            found.extend(self.all(ipv4, Timestamp::now())?.into_iter().map(|element| element.entry));
        }
        Ok(Entry::gather(found))
    }

    fn watch(&self) -> Option<BorrowedFd<'_>> {
        self.listening.watch()
    }

    fn noticed(&mut self) -> Result<Noticed, Error> {
        self.hear();
        let mut noticed = Noticed::default();
        let heard = std::mem::take(&mut self.heard);
        if heard != Told::default() || book::keeps(&self.book) {
            noticed = book::beside(&mut self.book, NAME)?;
            // What our own flush took away is not damaged.
            if noticed.cleared.is_none() {
                noticed.damaged = heard.damaged;
            }
        }
        noticed.told = self.listening.take();
        noticed.told.extend(self.order.take());
        Ok(noticed)
    }

    fn look_every(&self) -> Option<Duration> {
        Some(LOOK)
    }

    fn look(&mut self, should: Count) -> Result<Noticed, Error> {
        let (mut noticed, lock) = book::read(&mut self.book, NAME, lock()?)?;
        if lock.is_some() {
            for ipv4 in FAMILIES {
                self.look_at(ipv4, should.of(ipv4), &mut noticed)?;
            }
        }
        Ok(noticed)
    }

    fn mend(&mut self, blocks: &[(Prefix, &Block)]) -> Result<bool, Error> {
        let lock = lock()?;
        if book::follow(&mut self.book, NAME, &lock)? {
            return Ok(false);
        }
        let mut missing = false;
        for ipv4 in self.filters.holding(blocks) {
            missing |= self.set_up(ipv4)?;
        }
        Ok(missing)
    }

    fn remove(&mut self) -> Result<Vec<Entry>, Error> {
        let lock = lock()?;
        let (mut found, mut shared) = (Vec::new(), false);
        for filter in self.filters.all() {
            let rules = filter.rules()?;
            shared |= iptables::has_any(&rules);
            let ours: Vec<(&str, &Rule)> = BUILTIN
                .into_iter()
                .flat_map(|chain| rules.chain(chain).map(move |rule| (chain, rule)))
                .filter(|(_, rule)| is_ours(rule, filter.ipv4))
                .collect();
            let commands: Vec<String> = ours.iter().map(|(_, rule)| rule.deletion()).collect();
            filter.change(&commands)?;
            filter.restore_ground(ours.into_iter())?;
            for name in sets(filter.ipv4) {
                if let Some(elements) = self.sets.elements(name, Timestamp::now())? {
                    found.extend(elements.into_iter().map(|element| element.entry));
                    self.sets.destroy(name)?;
                }
            }
        }
        self.stood = [None, None];
        book::close(lock, NAME, shared)?;
        Ok(Entry::gather(found))
    }

    fn ends_by_itself(&self) -> bool {
        true
    }

    fn longest(&self) -> Option<Duration> {
        Some(Duration::from_secs(LONGEST))
    }
}
