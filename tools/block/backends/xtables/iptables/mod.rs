//! Blocks as rules of iptables: one chain PSENTRY, jumps to it at the top of INPUT and FORWARD, a rule per scope; where
//! packets to the source are dropped, too, a second chain for them. Every packet walks the rules, so that this is for
//! some hundreds of blocks; ipset and nft take any number.
//!
//! | | |
//! |---|---|
//! | `chains.rs` | the chains, and the jumps to them |
//! | `listed.rs` | blocks as rules |
//! | `blocks.rs` | changes as commands |
//! | `batches.rs` | many of them together |
//! | `looking.rs` | whether all of it stands, where nobody tells |

mod batches;
mod blocks;
mod chains;
mod listed;
mod looking;

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use psentry_records::{Prefix, Timestamp};

use self::batches::halving;
use self::blocks::{as_they_are, by_scope, commands};
pub(super) use self::chains::has_any;
use self::chains::{is_jump, setup};
use self::listed::{CHAINS, entries};
use super::book::{self, Book};
use super::families::{FAMILIES, Filters, by_family};
use super::hearing::{Chains, Told};
use super::listening::Listening;
use super::order::Order;
use super::place::{BUILTIN, Placing};
use super::rules::{Rule, Rules};
use super::{Filter, LOOK, REST, ipset, lock};
use crate::backend::{Backend, Block, Change, Count, Effect, Entry, Noticed};
use crate::error::Error;
use crate::reach::Reach;

const NAME: &str = "iptables";

/// How many changes make a batch: for each of them all rules are read, and by the legacy variant written.
const BATCH: usize = 2000;

/// The backend.
pub(crate) struct Iptables {
    filters: Filters,
    reach: Reach,
    /// What others do, as nf_tables tells it; without it, as it is looked for.
    listening: Listening,
    book: Option<Book>,
    order: Order,
    /// How long the last look took.
    look: Duration,
}

impl Iptables {
    pub(crate) fn find(reach: Reach) -> Result<Self, Error> {
        Ok(Iptables {
            filters: Filters::find(NAME)?,
            reach,
            listening: Listening::default(),
            book: None,
            order: Order::default(),
            look: Duration::ZERO,
        })
    }

    /// Makes what is missing of chains and jumps of a family, those of what is not proven if something is, and takes away
    /// what other flags made; what stands then, and whether something had to be done.
    fn set_up(&mut self, ipv4: bool, unproven: bool) -> Result<(Rules, bool), Error> {
        let Some(filter) = self.filters.of(ipv4) else { return Ok((Rules::read(""), false)) };
        let rules = filter.rules()?;
        self.order.look(filter, &rules, is_jump);
        let Placing { commands, gone } = setup(self.reach, filter, &rules, unproven)?;
        if commands.is_empty() {
            return Ok((rules, false));
        }
        filter.change(&commands)?;
        filter.restore_ground(gone.into_iter())?;
        Ok((filter.rules()?, true))
    }

    /// Makes the rules of the blocks that stand what the flags say; the blocks, and whether something had to be done.
    fn make_anew(&mut self, ipv4: bool) -> Result<(Vec<Entry>, bool), Error> {
        let (rules, missing) = self.set_up(ipv4, false)?;
        let entries = entries(&rules);
        let Some(filter) = self.filters.of(ipv4) else { return Ok((entries, missing)) };
        let (commands, _) = commands(self.reach, &by_scope(&rules), &as_they_are(&entries));
        filter.change(&commands)?;
        Ok((entries, missing || !commands.is_empty()))
    }

    fn apply_family(&mut self, ipv4: bool, changes: &[&Change]) -> Vec<Result<Effect, Error>> {
        // Who only releases makes nothing, least of all after a flush.
        let blocks = changes.iter().any(|change| change.block().is_some());
        let unproven = changes.iter().any(|change| change.block().is_some_and(|block| block.unproven));
        let made = if blocks { self.set_up(ipv4, unproven).map(|(rules, _)| Some(rules)) } else { Ok(None) };
        let Some(filter) = self.filters.of(ipv4) else {
            return changes.iter().map(|_| Err(Filter::absent(ipv4))).collect();
        };
        let rules = match made.and_then(|rules| rules.map_or_else(|| filter.rules(), Ok)) {
            Ok(rules) => rules,
            Err(error) => return changes.iter().map(|_| Err(error.clone())).collect(),
        };
        let rules = by_scope(&rules);
        halving(changes, &mut |changes| {
            let (commands, effects) = commands(self.reach, &rules, changes.iter().copied());
            filter.change(&commands)?;
            Ok(effects)
        })
    }
}

impl Backend for Iptables {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&mut self) -> Result<Vec<Entry>, Error> {
        let lock = lock()?;
        self.book = Some(Book::open(&lock)?);
        self.listening.begin(&self.filters)?;
        let mut found = Vec::new();
        for ipv4 in self.filters.families() {
            found.extend(self.make_anew(ipv4)?.0);
        }
        Ok(found)
    }

    fn apply(&mut self, changes: &[Change], _: Timestamp) -> Vec<Result<Effect, Error>> {
        let lock = match lock() {
            Ok(lock) => lock,
            Err(error) => return changes.iter().map(|_| Err(error.clone())).collect(),
        };
        // What cannot be read is told by the next look.
        let _ = book::follow(&mut self.book, NAME, &lock);
        let mut effects = by_family(changes, |ipv4, changes| self.apply_family(ipv4, changes));
        if self.book.is_none() {
            book::write_released(&lock, NAME, changes, &mut effects);
        }
        effects
    }

    fn list(&mut self) -> Result<Vec<Entry>, Error> {
        let mut found = Vec::new();
        for filter in self.filters.all() {
            found.extend(entries(&filter.rules()?));
        }
        Ok(found)
    }

    fn watch(&self) -> Option<BorrowedFd<'_>> {
        self.listening.watch()
    }

    fn noticed(&mut self) -> Result<Noticed, Error> {
        let mut noticed = Noticed::default();
        let heard = self.listening.hear(Chains { ours: &CHAINS, builtin: &BUILTIN });
        if heard != Told::default() || book::keeps(&self.book) {
            noticed = book::beside(&mut self.book, NAME)?;
            // What our own flush took away is not damaged.
            if noticed.cleared.is_none() {
                (noticed.edited, noticed.damaged) = (heard.edited, heard.damaged);
            }
        }
        noticed.told = self.listening.take();
        noticed.told.extend(self.order.take());
        Ok(noticed)
    }

    fn look_every(&self) -> Option<Duration> {
        self.listening.is_deaf().then(|| LOOK.max(self.look * REST))
    }

    fn look(&mut self, should: Count) -> Result<Noticed, Error> {
        let started = Instant::now();
        let (mut noticed, lock) = book::read(&mut self.book, NAME, lock()?)?;
        if lock.is_some() {
            for ipv4 in FAMILIES {
                self.look_at(ipv4, should.of(ipv4), &mut noticed)?;
            }
        }
        self.look = started.elapsed();
        Ok(noticed)
    }

    fn mend(&mut self, blocks: &[(Prefix, &Block)]) -> Result<bool, Error> {
        let lock = lock()?;
        if book::follow(&mut self.book, NAME, &lock)? {
            return Ok(false);
        }
        let mut missing = false;
        for ipv4 in self.filters.holding(blocks) {
            missing |= self.make_anew(ipv4)?.1;
        }
        Ok(missing)
    }

    fn remove(&mut self) -> Result<Vec<Entry>, Error> {
        let lock = lock()?;
        let (mut found, mut shared) = (Vec::new(), false);
        for filter in self.filters.all() {
            let rules = filter.rules()?;
            shared |= ipset::has_any(&rules, filter.ipv4);
            found.extend(entries(&rules));
            let jumps: Vec<(&str, &Rule)> = BUILTIN
                .into_iter()
                .flat_map(|chain| rules.chain(chain).filter(|r| is_jump(r)).map(move |rule| (chain, rule)))
                .collect();
            let mut commands: Vec<String> = jumps.iter().map(|(_, rule)| rule.deletion()).collect();
            for chain in CHAINS.into_iter().filter(|chain| rules.has_chain(chain)) {
                commands.extend([format!("-F {chain}"), format!("-X {chain}")]);
            }
            filter.change(&commands)?;
            filter.restore_ground(jumps.into_iter())?;
        }
        book::close(lock, NAME, shared)?;
        Ok(found)
    }

    fn at_once(&self) -> usize {
        BATCH
    }

    fn ends_by_itself(&self) -> bool {
        false
    }
}
