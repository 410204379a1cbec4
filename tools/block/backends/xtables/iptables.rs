//! Blocks as rules of iptables: one chain PSENTRY, jumps to it at the top of INPUT and FORWARD, a rule per scope; where
//! packets to the source are dropped, too, a second chain for them. Every packet walks the rules, so that this is for
//! some hundreds of blocks; ipset and nft take any number.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use psentry_records::{Prefix, Timestamp};

use super::super::SOMEBODY;
use super::batches::{by_family, halving};
use super::book::{self, Book, Decision};
use super::chains::{is_jump, setup};
use super::hearing::{Chains, Ear, Told};
use super::listed::{IN, OUT, entries, rules_of};
use super::order::Order;
use super::place::{BUILTIN, Placing};
use super::rules::{Rule, Rules};
use super::{Filter, LOOK, REST, lock};
use crate::backend::{Backend, Block, Change, Count, Effect, Entry, Noticed, Wish};
use crate::error::Error;
use crate::extent::Extent;

const NAME: &str = "iptables";

/// How many changes make a batch: for each of them all rules are read, and by the legacy variant written.
const BATCH: usize = 2000;

/// The backend.
pub(crate) struct Iptables {
    filters: Vec<Filter>,
    extent: Extent,
    /// What others do, as nf_tables tells it; without it, as it is looked for.
    ear: Option<Ear>,
    book: Option<Book>,
    order: Order,
    /// How long the last look took, and what is to be told.
    look: Duration,
    told: Vec<String>,
}

impl Iptables {
    pub(crate) fn find(extent: Extent) -> Result<Self, Error> {
        let (filters, order) = (Filter::find(NAME)?, Order::default());
        let (look, told) = (Duration::ZERO, Vec::new());
        Ok(Iptables { filters, extent, ear: None, book: None, order, look, told })
    }

    /// Where nf_tables keeps the rules, the kernel tells of them from now on.
    fn listen(&mut self) -> Result<(), Error> {
        let Some(filter) = self.filters.first() else { return Ok(()) };
        if filter.is_nf_tables()? {
            self.ear = Ear::open().map_err(|error| self.told.push(deaf(&error))).ok();
        }
        Ok(())
    }

    /// Makes what is missing of chains and jumps of a family, and takes away what other flags made; what stands then, and
    /// whether something had to be done.
    fn set_up(&mut self, at: usize) -> Result<(Rules, bool), Error> {
        let Some(filter) = self.filters.get(at) else { return Ok((Rules::read(""), false)) };
        let rules = filter.rules()?;
        self.order.look(filter, &rules, is_jump);
        let Placing { commands, gone } = setup(self.extent, filter, &rules)?;
        if commands.is_empty() {
            return Ok((rules, false));
        }
        filter.change(&commands)?;
        filter.restore_ground(gone.into_iter())?;
        Ok((filter.rules()?, true))
    }

    /// Makes the rules of the blocks that stand what the flags say; the blocks, and whether something had to be done.
    fn make_anew(&mut self, at: usize) -> Result<(Vec<Entry>, bool), Error> {
        let (rules, missing) = self.set_up(at)?;
        let entries = entries(&rules);
        let Some(filter) = self.filters.get(at) else { return Ok((entries, missing)) };
        let (commands, _) = commands(self.extent, &by_scope(&rules), &as_they_are(&entries));
        filter.change(&commands)?;
        Ok((entries, missing || !commands.is_empty()))
    }

    fn apply_family(&mut self, ipv4: bool, changes: &[&Change]) -> Vec<Result<Effect, Error>> {
        let Some(at) = self.filters.iter().position(|filter| filter.ipv4 == ipv4) else {
            return changes.iter().map(|_| Err(Filter::absent(ipv4))).collect();
        };
        // Who only releases makes nothing, least of all after a flush.
        let blocks = changes.iter().any(|change| change.block().is_some());
        let ready = if blocks {
            self.set_up(at).map(|(rules, _)| rules)
        } else {
            self.filters.get(at).map_or_else(|| Ok(Rules::read("")), Filter::rules)
        };
        match (ready, self.filters.get(at)) {
            (Ok(rules), Some(filter)) => {
                let rules = by_scope(&rules);
                halving(changes, &mut |changes| {
                    let (commands, effects) = commands(self.extent, &rules, changes.iter().copied());
                    filter.change(&commands)?;
                    Ok(effects)
                })
            }
            (Err(error), _) => changes.iter().map(|_| Err(error.clone())).collect(),
            (Ok(_), None) => changes.iter().map(|_| Err(Filter::absent(ipv4))).collect(),
        }
    }

    /// Whether the rules of a family are as they should be.
    fn look_at(&mut self, at: usize, should: usize, noticed: &mut Noticed) -> Result<(), Error> {
        let Some(filter) = self.filters.get(at).filter(|_| should > 0) else { return Ok(()) };
        let rules = filter.rules()?;
        self.order.look(filter, &rules, is_jump);
        let somebody = || Some(SOMEBODY.to_owned());
        let entries = entries(&rules);
        let ground = setup(self.extent, filter, &rules)?.commands;
        let (blocks, _) = commands(self.extent, &by_scope(&rules), &as_they_are(&entries));
        let whole = ground.is_empty() && blocks.is_empty();
        match should.saturating_sub(entries.len()) {
            0 if whole => {}
            // Of several that went within half a second nobody thought of each.
            1 if whole => noticed.edited = somebody(),
            _ => noticed.damaged = somebody(),
        }
        Ok(())
    }
}

impl Backend for Iptables {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&mut self) -> Result<Vec<Entry>, Error> {
        let lock = lock()?;
        self.book = Some(Book::open(&lock)?);
        self.listen()?;
        let mut found = Vec::new();
        for at in 0..self.filters.len() {
            found.extend(self.make_anew(at)?.0);
        }
        Ok(found)
    }

    fn apply(&mut self, changes: &[Change], _: Timestamp) -> Vec<Result<Effect, Error>> {
        let lock = match lock() {
            Ok(lock) => lock,
            Err(error) => return changes.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut effects = by_family(changes, |ipv4, changes| self.apply_family(ipv4, changes));
        if self.book.is_none() {
            book::write_released(&lock, NAME, changes, &mut effects);
        }
        effects
    }

    fn list(&mut self) -> Result<Vec<Entry>, Error> {
        let mut found = Vec::new();
        for filter in &self.filters {
            found.extend(entries(&filter.rules()?));
        }
        Ok(found)
    }

    fn watch(&self) -> Option<BorrowedFd<'_>> {
        self.ear.as_ref().map(AsFd::as_fd)
    }

    fn noticed(&mut self) -> Result<Noticed, Error> {
        let mut noticed = Noticed::default();
        let ours = self.filters.iter().flat_map(Filter::take_ran).collect();
        let chains = Chains { ours: &[IN, OUT], builtin: &BUILTIN };
        let heard = match self.ear.as_mut().map(|ear| ear.hear(chains, ours)) {
            None => Told::default(),
            Some(Ok(heard)) => heard,
            Some(Err(error)) => {
                self.ear = None;
                self.told.push(deaf(&error));
                Told::default()
            }
        };
        if heard != Told::default() {
            // Should psentry-block's own lock not be had, it is only not known whether it was psentry-block.
            if let (Some(book), Ok(lock)) = (&mut self.book, lock()) {
                noticed = book.decided(&lock, NAME)?;
            }
            (noticed.edited, noticed.damaged) = (heard.edited, heard.damaged);
        }
        noticed.told = std::mem::take(&mut self.told);
        noticed.told.extend(self.order.take());
        Ok(noticed)
    }

    fn look_every(&self) -> Option<Duration> {
        self.ear.is_none().then(|| LOOK.max(self.look * REST))
    }

    fn look(&mut self, should: Count) -> Result<Noticed, Error> {
        let started = Instant::now();
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
        self.look = started.elapsed();
        Ok(noticed)
    }

    fn mend(&mut self, scopes: &[Prefix]) -> Result<bool, Error> {
        let _lock = lock()?;
        let mut missing = false;
        for at in 0..self.filters.len() {
            let ipv4 = self.filters.get(at).is_some_and(|filter| filter.ipv4);
            if scopes.iter().any(|scope| scope.is_ipv4() == ipv4) {
                missing |= self.make_anew(at)?.1;
            }
        }
        Ok(missing)
    }

    fn remove(&mut self) -> Result<Vec<Entry>, Error> {
        let lock = lock()?;
        let mut found = Vec::new();
        for filter in &self.filters {
            let rules = filter.rules()?;
            found.extend(entries(&rules));
            let jumps: Vec<(&str, &Rule)> = BUILTIN
                .into_iter()
                .flat_map(|chain| rules.chain(chain).filter(|r| is_jump(r)).map(move |rule| (chain, rule)))
                .collect();
            let mut commands: Vec<String> = jumps.iter().map(|(_, rule)| rule.deletion()).collect();
            for chain in [IN, OUT].into_iter().filter(|chain| rules.has_chain(chain)) {
                commands.extend([format!("-F {chain}"), format!("-X {chain}")]);
            }
            filter.change(&commands)?;
            filter.restore_ground(jumps.into_iter())?;
        }
        book::write(&lock, NAME, &[Decision::Flush])?;
        lock.remove();
        Ok(found)
    }

    fn at_once(&self) -> usize {
        BATCH
    }

    fn ends_by_itself(&self) -> bool {
        false
    }
}

/// Rules of our chains by the chain, and by whom they shut out.
type ByScope<'a> = HashMap<(&'static str, Prefix), Vec<&'a Rule>>;

fn by_scope(rules: &Rules) -> ByScope<'_> {
    let mut scopes: ByScope<'_> = HashMap::new();
    for chain in [IN, OUT] {
        for rule in rules.chain(chain) {
            if let Some(scope) = rule.scope() {
                scopes.entry((chain, scope)).or_default().push(rule);
            }
        }
    }
    scopes
}

/// The changes that leave blocks as they stand.
fn as_they_are(entries: &[Entry]) -> Vec<Change> {
    let block = |entry: &Entry| Change { scope: entry.scope, wish: Wish::Block(Block::from(entry)) };
    entries.iter().map(block).collect()
}

/// The commands that make changes of one family, on what stood when `rules` were read, and what they come to.
fn commands<'a>(
    extent: Extent,
    rules: &ByScope<'_>,
    changes: impl IntoIterator<Item = &'a Change>,
) -> (Vec<String>, Vec<Effect>) {
    let (mut commands, mut effects) = (Vec::new(), Vec::new());
    for change in changes {
        let mut effect = Effect::WasNotThere;
        for chain in [IN, OUT] {
            let old = rules.get(&(chain, change.scope)).map_or(&[][..], Vec::as_slice);
            let wanted = match &change.wish {
                Wish::Block(block) => rules_of(extent, chain, change.scope, block),
                Wish::Release(_) => Vec::new(),
            };
            if !wanted.is_empty() || !old.is_empty() {
                effect = Effect::Done;
            }
            if old.len() == wanted.len() && old.iter().zip(&wanted).all(|(rule, wanted)| rule.is(wanted)) {
                continue;
            }
            // The new ones first: inside one step nobody sees the difference, but the order costs nothing.
            commands.extend(wanted.iter().map(|rule| format!("-A {chain} {rule}")));
            commands.extend(old.iter().map(|rule| rule.deletion()));
        }
        effects.push(effect);
    }
    (commands, effects)
}

/// What is said when the kernel does not tell of changes.
fn deaf(error: &Error) -> String {
    format!("the kernel does not tell of changes: {error}; it is looked for them twice a second")
}
