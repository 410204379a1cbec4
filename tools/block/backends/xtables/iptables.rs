//! Blocks as rules of iptables: one chain PSENTRY, one jump to it at the top of INPUT, a rule per scope. Every
//! packet walks the rules, so that this is for some hundreds of blocks; ipset and nft take any number.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use psentry_records::{Prefix, Timestamp};

use super::super::SOMEBODY;
use super::batches::{by_family, halving};
use super::book::{self, Book, Decision};
use super::hearing::{Ear, Told};
use super::order::Order;
use super::rules::{Rule, Rules};
use super::{Filter, LOOK, REST, lock};
use crate::backend::{Backend, Change, Count, Effect, Entry, Noticed, Wish};
use crate::error::Error;
use crate::note;

const NAME: &str = "iptables";
const CHAIN: &str = "PSENTRY";

/// How many changes make a batch: for each of them all rules are read, and by the legacy variant written.
const BATCH: usize = 2000;

/// The backend.
pub(crate) struct Iptables {
    filters: Vec<Filter>,
    /// What others do, as nf_tables tells it; without it, as it is looked for.
    ear: Option<Ear>,
    book: Option<Book>,
    order: Order,
    /// How long the last look took, and what is to be told.
    look: Duration,
    told: Vec<String>,
}

impl Iptables {
    pub(crate) fn find() -> Result<Self, Error> {
        let (filters, order) = (Filter::find(NAME)?, Order::default());
        Ok(Iptables { filters, ear: None, book: None, order, look: Duration::ZERO, told: Vec::new() })
    }

    /// Where nf_tables keeps the rules, the kernel tells of them from now on.
    fn listen(&mut self) -> Result<(), Error> {
        let Some(filter) = self.filters.first() else { return Ok(()) };
        if filter.is_nf_tables()? {
            self.ear = Ear::open().map_err(|error| self.told.push(deaf(&error))).ok();
        }
        Ok(())
    }

    /// Makes what is missing of chain and jump of a family; what stands, and whether something was missing.
    fn set_up(&mut self, at: usize) -> Result<(Rules, bool), Error> {
        let Some(filter) = self.filters.get(at) else { return Ok((Rules::read(""), false)) };
        let rules = filter.rules()?;
        self.order.look(filter, &rules, is_jump);
        let commands = setup(filter, &rules)?;
        filter.change(&commands)?;
        Ok((rules, !commands.is_empty()))
    }

    /// Makes the changes of one family, in one step, on what stood when `rules` were read.
    fn make(filter: &Filter, rules: &BySource<'_>, changes: &[&Change]) -> Result<Vec<Effect>, Error> {
        let mut commands = Vec::new();
        let mut effects = Vec::with_capacity(changes.len());
        for change in changes {
            let old = rules.get(&change.scope).map_or(&[][..], Vec::as_slice);
            let new = match &change.wish {
                Wish::Block(block) => Some(note::write(block.rule.as_deref(), block.until)),
                Wish::Release(_) => None,
            };
            effects.push(if new.is_none() && old.is_empty() { Effect::WasNotThere } else { Effect::Done });
            if let ([rule], Some(note)) = (old, &new)
                && rule.comment() == Some(note)
                && rule.target() == Some("DROP")
            {
                continue;
            }
            // The new one first: inside one step nobody sees the difference, but the order costs nothing.
            commands.extend(new.map(|note| {
                format!("-A {CHAIN} -s {} -m comment --comment \"{note}\" -j DROP", change.scope)
            }));
            commands.extend(old.iter().map(|rule| rule.deletion()));
        }
        filter.change(&commands)?;
        Ok(effects)
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
                let rules = by_source(&rules);
                halving(changes, &mut |changes| Self::make(filter, &rules, changes))
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
        let whole = rules.has_chain(CHAIN) && rules.chain("INPUT").any(is_jump);
        match should.saturating_sub(entries(&rules).len()) {
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
            found.extend(entries(&self.set_up(at)?.0));
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
        let heard = match self.ear.as_mut().map(|ear| ear.hear(CHAIN, ours)) {
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
                missing |= self.set_up(at)?.1;
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
            let jumps: Vec<_> = rules.chain("INPUT").filter(|rule| is_jump(rule)).collect();
            let mut commands: Vec<String> = jumps.iter().map(|rule| rule.deletion()).collect();
            if rules.has_chain(CHAIN) {
                commands.extend([format!("-F {CHAIN}"), format!("-X {CHAIN}")]);
            }
            filter.change(&commands)?;
            filter.restore_ground(&Filter::marks(jumps.into_iter()))?;
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

/// Rules of our chain by whom they drop.
type BySource<'a> = HashMap<Prefix, Vec<&'a Rule>>;

fn by_source(rules: &Rules) -> BySource<'_> {
    let mut sources: BySource<'_> = HashMap::new();
    for rule in rules.chain(CHAIN) {
        if let Some(source) = rule.source() {
            sources.entry(source).or_default().push(rule);
        }
    }
    sources
}

fn is_jump(rule: &Rule) -> bool {
    rule.target() == Some(CHAIN)
}

/// What is said when the kernel does not tell of changes.
fn deaf(error: &Error) -> String {
    format!("the kernel does not tell of changes: {error}; it is looked for them twice a second")
}

/// The commands that make what is missing of chain and jump. In `iptables-restore --noflush` a line `:CHAIN`
/// empties a chain that is there, so that it is written only for one that is not.
fn setup(filter: &Filter, rules: &Rules) -> Result<Vec<String>, Error> {
    let mut commands = Vec::new();
    if !rules.has_chain(CHAIN) {
        commands.push(format!(":{CHAIN} - [0:0]"));
    }
    commands.extend(filter.jump(rules, &format!("-j {CHAIN}"), is_jump)?);
    Ok(commands)
}

fn entries(rules: &Rules) -> Vec<Entry> {
    let entry = |rule: &Rule| {
        let (rule_name, until) = note::read(rule.comment()?)?;
        Some(Entry::new(rule.source()?, until, rule_name))
    };
    rules.chain(CHAIN).filter_map(entry).collect()
}
