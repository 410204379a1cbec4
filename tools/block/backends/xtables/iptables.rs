//! Blocks as rules of iptables: one chain PSENTRY, jumps to it at the top of INPUT and FORWARD, a rule per scope; where
//! packets to the source are dropped, too, a second chain for them. Every packet walks the rules, so that this is for
//! some hundreds of blocks; ipset and nft take any number.

use psentry_records::Timestamp;

use super::batches::{by_family, halving};
use super::listed::{IN, OUT, entries, rules_of};
use super::place::BUILTIN;
use super::rules::{Rule, Rules};
use super::{Filter, lock};
use crate::backend::{Backend, Block, Change, Effect, Entry, Wish};
use crate::error::Error;
use crate::extent::Extent;

const NAME: &str = "iptables";

/// The rule that lets connections go on.
const SPARE: &str = "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN";

/// How many changes make a batch: between two of them ends are dealt with.
const BATCH: usize = 500;

/// The backend.
pub(crate) struct Iptables {
    filters: Vec<Filter>,
    extent: Extent,
}

impl Iptables {
    pub(crate) fn find(extent: Extent) -> Result<Self, Error> {
        Ok(Iptables { filters: Filter::find(NAME)?, extent })
    }

    /// Makes the changes of one family, in one step, on what stood when `rules` were read.
    fn make(&self, filter: &Filter, rules: &Rules, changes: &[&Change]) -> Result<Vec<Effect>, Error> {
        let mut commands = Vec::new();
        let mut effects = Vec::with_capacity(changes.len());
        for change in changes {
            let mut effect = Effect::WasNotThere;
            for chain in [IN, OUT] {
                let old: Vec<&Rule> =
                    rules.chain(chain).filter(|r| r.scope() == Some(change.scope)).collect();
                let wanted = match &change.wish {
                    Wish::Block(block) => rules_of(self.extent, chain, change.scope, block),
                    Wish::Release(_) => Vec::new(),
                };
                if !wanted.is_empty() || !old.is_empty() {
                    effect = Effect::Done;
                }
                if old.len() == wanted.len() && old.iter().zip(&wanted).all(|(rule, wanted)| rule.is(wanted))
                {
                    continue;
                }
                // The new ones first: inside one step nobody sees the difference, but the order costs nothing.
                commands.extend(wanted.iter().map(|rule| format!("-A {chain} {rule}")));
                commands.extend(old.into_iter().map(Rule::deletion));
            }
            effects.push(effect);
        }
        filter.change(&commands)?;
        Ok(effects)
    }

    /// Makes what is missing of chains and jumps, and takes away what other flags made. In `iptables-restore
    /// --noflush` a line `:CHAIN` empties a chain that is there, so that it is written only for one that is not. Gives
    /// the rules that stand then.
    fn set_up(&self, filter: &Filter) -> Result<Rules, Error> {
        let rules = filter.rules()?;
        let Extent { forward, egress, .. } = self.extent;
        let mut commands = Vec::new();
        for chain in [Some(IN), egress.then_some(OUT)].into_iter().flatten() {
            if !rules.has_chain(chain) {
                commands.push(format!(":{chain} - [0:0]"));
            }
            let spare = rules.chain(chain).find(|rule| rule.is(SPARE));
            match (self.extent.spares(), spare) {
                (true, None) => commands.push(format!("-I {chain} 1 {SPARE}")),
                (false, Some(rule)) => commands.push(rule.deletion()),
                _ => {}
            }
        }
        let mut gone = Vec::new();
        for chain in BUILTIN {
            let targets = match chain {
                "INPUT" => [true, false],
                "FORWARD" => [forward, forward && egress],
                _ => [false, egress],
            };
            let wanted = [IN, OUT].into_iter().zip(targets).filter(|(_, jump)| *jump);
            let wanted: Vec<String> = wanted.map(|(target, _)| format!("-j {target}")).collect();
            commands.extend(filter.place(&rules, chain, &wanted, is_jump)?);
            if wanted.is_empty() {
                gone.extend(rules.chain(chain).filter(|rule| is_jump(rule)).map(|rule| (chain, rule)));
            }
        }
        if !egress && rules.has_chain(OUT) {
            commands.extend([format!("-F {OUT}"), format!("-X {OUT}")]);
        }
        if commands.is_empty() {
            return Ok(rules);
        }
        filter.change(&commands)?;
        filter.restore_ground(gone.into_iter())?;
        filter.rules()
    }

    fn apply_family(&self, ipv4: bool, changes: &[&Change]) -> Vec<Result<Effect, Error>> {
        let Some(filter) = self.filters.iter().find(|filter| filter.ipv4 == ipv4) else {
            return changes.iter().map(|_| Err(Filter::absent(ipv4))).collect();
        };
        // Who only releases makes nothing, least of all after a flush.
        let blocks = changes.iter().any(|change| change.block().is_some());
        match if blocks { self.set_up(filter) } else { filter.rules() } {
            Ok(rules) => halving(changes, &mut |changes| self.make(filter, &rules, changes)),
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
            let rules = self.set_up(filter)?;
            let entries = entries(&rules);
            // What other flags made is made anew.
            let block = |entry: &Entry| Change { scope: entry.scope, wish: Wish::Block(Block::from(entry)) };
            let changes: Vec<Change> = entries.iter().map(block).collect();
            self.make(filter, &rules, &changes.iter().collect::<Vec<_>>())?;
            found.extend(entries);
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

fn is_jump(rule: &Rule) -> bool {
    rule.target().is_some_and(|target| [IN, OUT].contains(&target))
}
