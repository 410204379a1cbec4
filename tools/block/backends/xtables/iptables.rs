//! Blocks as rules of iptables: one chain PSENTRY, one jump to it at the top of INPUT, a rule per scope. Every
//! packet walks the rules, so that this is for some hundreds of blocks; ipset and nft take any number.

use psentry_kernel::Error as Below;
use psentry_records::{Prefix, Timestamp};

use super::rules::Rules;
use super::{Filter, lock};
use crate::backend::{Backend, Change, Effect, Entry, Wish};
use crate::error::Error;
use crate::note;

const NAME: &str = "iptables";
const CHAIN: &str = "PSENTRY";

/// How many times a batch that fails is halved. Two bad changes among a thousand are found with less.
const PATIENCE: u32 = 24;

/// How many changes make a batch: between two of them ends are dealt with.
const BATCH: usize = 500;

/// The backend.
pub(crate) struct Iptables {
    filters: Vec<Filter>,
}

impl Iptables {
    pub(crate) fn find() -> Result<Self, Error> {
        Ok(Iptables { filters: Filter::find(NAME)? })
    }

    /// Makes the changes of one family, in one step, on what stood when `rules` were read.
    fn make(filter: &Filter, rules: &Rules, changes: &[&Change]) -> Result<Vec<Effect>, Error> {
        let mut commands = Vec::new();
        let mut effects = Vec::with_capacity(changes.len());
        for change in changes {
            let old: Vec<_> = rules.chain(CHAIN).filter(|rule| rule.source() == Some(change.scope)).collect();
            let new = match &change.wish {
                Wish::Block(block) => Some(note::write(block.rule.as_deref(), block.until)),
                Wish::Release(_) => None,
            };
            effects.push(if new.is_none() && old.is_empty() { Effect::WasNotThere } else { Effect::Done });
            if let ([rule], Some(note)) = (&*old, &new)
                && rule.comment() == Some(note)
                && rule.target() == Some("DROP")
            {
                continue;
            }
            // The new one first: inside one step nobody sees the difference, but the order costs nothing.
            commands.extend(new.map(|note| {
                format!("-A {CHAIN} -s {} -m comment --comment \"{note}\" -j DROP", change.scope)
            }));
            commands.extend(old.into_iter().map(super::rules::Rule::deletion));
        }
        filter.change(&commands)?;
        Ok(effects)
    }

    fn apply_family(&self, ipv4: bool, changes: &[&Change]) -> Vec<Result<Effect, Error>> {
        let Some(filter) = self.filters.iter().find(|filter| filter.ipv4 == ipv4) else {
            return changes.iter().map(|_| Err(Filter::absent(ipv4))).collect();
        };
        // Who only releases makes nothing, least of all after a flush.
        let blocks = changes.iter().any(|change| change.block().is_some());
        let ready = || -> Result<Rules, Error> {
            let rules = filter.rules()?;
            if blocks {
                filter.change(&setup(filter, &rules)?)?;
            }
            Ok(rules)
        };
        match ready() {
            Ok(rules) => halving(changes, &mut |changes| Self::make(filter, &rules, changes)),
            Err(error) => changes.iter().map(|_| Err(error.clone())).collect(),
        }
    }
}

impl Backend for Iptables {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&mut self) -> Result<Vec<Entry>, Error> {
        let _lock = lock()?;
        let mut found = Vec::new();
        for filter in &self.filters {
            let rules = filter.rules()?;
            filter.change(&setup(filter, &rules)?)?;
            found.extend(entries(&rules));
        }
        Ok(found)
    }

    fn apply(&mut self, changes: &[Change], _: Timestamp) -> Vec<Result<Effect, Error>> {
        let _lock = match lock() {
            Ok(lock) => lock,
            Err(error) => return changes.iter().map(|_| Err(error.clone())).collect(),
        };
        by_family(changes, |ipv4, changes| self.apply_family(ipv4, changes))
    }

    fn list(&mut self) -> Result<Vec<Entry>, Error> {
        let mut found = Vec::new();
        for filter in &self.filters {
            found.extend(entries(&filter.rules()?));
        }
        Ok(found)
    }

    fn remove(&mut self) -> Result<Vec<Entry>, Error> {
        let lock = lock()?;
        let mut found = Vec::new();
        for filter in &self.filters {
            let rules = filter.rules()?;
            found.extend(entries(&rules));
            let jumps: Vec<_> = rules.chain("INPUT").filter(|rule| rule.target() == Some(CHAIN)).collect();
            let mut commands: Vec<String> = jumps.iter().map(|rule| rule.deletion()).collect();
            if rules.has_chain(CHAIN) {
                commands.extend([format!("-F {CHAIN}"), format!("-X {CHAIN}")]);
            }
            filter.change(&commands)?;
            filter.restore_ground(&Filter::marks(jumps.into_iter()))?;
        }
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

/// The commands that make what is missing of chain and jump. In `iptables-restore --noflush` a line `:CHAIN`
/// empties a chain that is there, so that it is written only for one that is not.
fn setup(filter: &Filter, rules: &Rules) -> Result<Vec<String>, Error> {
    let mut commands = Vec::new();
    if !rules.has_chain(CHAIN) {
        commands.push(format!(":{CHAIN} - [0:0]"));
    }
    commands.extend(filter.jump(rules, &format!("-j {CHAIN}"), |rule| rule.target() == Some(CHAIN))?);
    Ok(commands)
}

fn entries(rules: &Rules) -> Vec<Entry> {
    let entry = |rule: &super::rules::Rule| {
        let (rule_name, until) = note::read(rule.comment()?)?;
        Some(Entry::new(rule.source()?, until, rule_name))
    };
    rules.chain(CHAIN).filter_map(entry).collect()
}

/// Makes changes together. If the program objects, they may be too many at once, or one of them bad: then each half
/// on its own, until each has its own result, or the program has failed too often. A lock that another holds is no
/// reason to run it again and again.
pub(super) fn halving(
    changes: &[&Change],
    make: &mut impl FnMut(&[&Change]) -> Result<Vec<Effect>, Error>,
) -> Vec<Result<Effect, Error>> {
    let mut patience = PATIENCE;
    halve(changes, make, &mut patience)
}

fn halve(
    changes: &[&Change],
    make: &mut impl FnMut(&[&Change]) -> Result<Vec<Effect>, Error>,
    patience: &mut u32,
) -> Vec<Result<Effect, Error>> {
    match make(changes) {
        Ok(effects) => effects.into_iter().map(Ok).collect(),
        Err(Error::System(Below::Program { code: Some(1 | 2), .. }))
            if changes.len() > 1 && *patience > 0 =>
        {
            *patience -= 1;
            let (first, second) = changes.split_at(changes.len() / 2);
            let mut results = halve(first, make, patience);
            results.extend(halve(second, make, patience));
            results
        }
        Err(error) => changes.iter().map(|_| Err(error.clone())).collect(),
    }
}

/// Has each family's changes made together, and puts the results in the order of the changes.
pub(super) fn by_family(
    changes: &[Change],
    mut apply: impl FnMut(bool, &[&Change]) -> Vec<Result<Effect, Error>>,
) -> Vec<Result<Effect, Error>> {
    let of = |ipv4: bool| -> Vec<&Change> {
        changes.iter().filter(|change: &&Change| change.scope.is_ipv4() == ipv4).collect()
    };
    let mut results = [true, false].map(|ipv4| {
        let changes = of(ipv4);
        let results = if changes.is_empty() { Vec::new() } else { apply(ipv4, &changes) };
        results.into_iter()
    });
    let [v4, v6] = &mut results;
    let result = |scope: Prefix| if scope.is_ipv4() { v4.next() } else { v6.next() };
    let missing = || Err(Error::Unfinished("a change has no result; this is a bug of psentry".to_owned()));
    changes.iter().map(|change| change.scope).map(result).map(|r| r.unwrap_or_else(missing)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Block;

    fn changes(count: u32) -> Vec<Change> {
        let scope = |n: u32| Prefix::host(std::net::Ipv4Addr::from(0xC633_6400 + n).into());
        (0..count).map(|n| Change { scope: scope(n), wish: Wish::Block(Block::default()) }).collect()
    }

    fn failure(code: i32) -> Error {
        let text = || "x".to_owned();
        Below::Program { program: text(), status: text(), code: Some(code), said: text() }.into()
    }

    /// How often the program is run, and how many changes succeed, when those that are `bad` fail their batch.
    fn run(count: u32, code: i32, bad: impl Fn(&Change) -> bool) -> (u32, usize) {
        let changes = changes(count);
        let mut runs = 0;
        let results = halving(&changes.iter().collect::<Vec<_>>(), &mut |changes| {
            runs += 1;
            if changes.iter().any(|change| bad(change)) {
                Err(failure(code))
            } else {
                Ok(vec![Effect::Done; changes.len()])
            }
        });
        assert_eq!(results.len(), changes.len());
        (runs, results.iter().filter(|result| result.is_ok()).count())
    }

    #[test]
    fn one_bad_change_is_found_and_a_held_lock_is_left_alone() {
        let last =
            |count: u32| move |change: &Change| change.scope == changes(count)[count as usize - 1].scope;
        assert_eq!(run(512, 2, last(512)), (19, 511));
        assert_eq!(run(512, 4, last(512)), (1, 0));
        let (runs, _) = run(2000, 1, |_| true);
        assert!(runs <= 2 * PATIENCE + 1, "{runs}");
    }
}
