//! Blocks as entries of ipset's sets, one for each family, more for single ports and for what is not proven, matched by rules
//! at the top of INPUT and FORWARD. The kernel expires them.
//!
//! | | |
//! |---|---|
//! | `sets.rs` | the sets, their elements, and how many there should be |
//! | `match_rules.rs` | the rules that match the sets |

mod match_rules;
mod sets;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use psentry_linux::{IpSets, SetChange, SetError};
use psentry_records::Timestamp;

pub(super) use self::match_rules::is_match;
use self::match_rules::rules_of;
use self::sets::{Expected, SIZE, destroy, entry, make, saved_rules_warning, seconds, set, set_of, sets};
use super::rules::{BUILTIN, Rule};
use super::tables::{Tables, retried};
use super::{FAMILIES, POLL, by_family, unless_absent};
use crate::backend::{Backend, Caps, Drift, Listing, Op};
use crate::backends::set_elements::{blocks, keys};
use crate::backends::{failed, installed};
use crate::block::Block;
use crate::error::Error;
use crate::note;
use crate::reach::Reach;

const NAME: &str = "ipset";

/// Longer times than the kernel takes are given to it anew, long before they end.
const LIST_EVERY: Duration = Duration::from_secs(86_400);

/// The backend.
pub(crate) struct Ipset {
    tables: Tables,
    sets: IpSets,
    reach: Reach,
    /// The sets that rules match: those of all ports and of what is proven, and each other one once something is in it.
    used: BTreeSet<&'static str>,
    /// Whether the sets and rules of each family were found to be in place, and not reported to have changed since.
    ready: [bool; 2],
    /// What there should be in each set that was listed or changed.
    expected: BTreeMap<&'static str, Expected>,
    /// When the sets were last counted.
    counted: Option<Instant>,
    /// It was looked whether saved rules would be loaded.
    warned: bool,
}

impl Ipset {
    /// # Errors
    /// When the kernel has no netlink.
    pub(crate) fn open(reach: Reach) -> Result<Self, Error> {
        Ok(Ipset {
            tables: Tables::new(NAME, &BUILTIN),
            sets: IpSets::open()?,
            reach,
            used: FAMILIES.map(|ipv4| set(ipv4, false, false)).into(),
            ready: [false; 2],
            expected: BTreeMap::new(),
            counted: None,
            warned: false,
        })
    }

    /// Makes sets and rules of a family, as far as they are missing, and deletes rules that other flags made; whether
    /// something was missing.
    fn set_up(&mut self, ipv4: bool) -> Result<bool, Error> {
        // Without the family there are no rules, and nobody needs a set.
        self.tables.rules(ipv4)?;
        let mut made = false;
        for name in sets(ipv4) {
            let mut header = self.sets.header(name).map_err(failed(NAME))?;
            if header.is_some_and(|header| !header.keeps_notes) {
                // Somebody put another one in its place. No rule may match a set that is destroyed.
                let matches = |rule: &Rule| rule.value("--match-set") == Some(name);
                self.tables.delete(ipv4, |rules| rules.deletions(matches))?;
                destroy(&mut self.sets, name)?;
                header = None;
            }
            // What another run blocked stays blocked.
            if header.is_some_and(|header| header.entries > 0) {
                self.used.insert(name);
            }
            if header.is_none() && self.used.contains(name) {
                make(name, ipv4)?;
                self.expected.remove(name);
                made = true;
            }
        }
        let rules = self.tables.rules(ipv4)?;
        let used: Vec<&str> = sets(ipv4).into_iter().filter(|name| self.used.contains(name)).collect();
        let place = |chain| rules.place(chain, &rules_of(self.reach, ipv4, chain, &used), is_match);
        let commands: Vec<String> = BUILTIN.into_iter().flat_map(place).collect();
        self.tables.change(ipv4, &commands)?;
        *self.ready(ipv4) = true;
        Ok(made || !commands.is_empty())
    }

    /// Looks for the programs that were not found yet.
    ///
    /// # Errors
    /// When iptables or ipset is not installed.
    fn find_programs(&mut self) -> Result<(), Error> {
        installed(NAME, NAME)?;
        self.tables.find_programs()
    }

    fn ready(&mut self, ipv4: bool) -> &mut bool {
        let [v4, v6] = &mut self.ready;
        if ipv4 { v4 } else { v6 }
    }

    fn apply_family(
        &mut self,
        ipv4: bool,
        ops: &[&Op],
        now: Timestamp,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let started = Instant::now();
        let mut puts = false;
        for op in ops {
            if let Some(block) = op.block() {
                puts = true;
                *self.ready(ipv4) &= !self.used.insert(set_of(op.scope(), block));
            }
        }
        // A set that no rule matches blocks nobody.
        if puts && !(*self.ready(ipv4) && self.tables.is_current(ipv4)?) {
            retried(|| self.set_up(ipv4))?;
        }
        // The kernel counts from now, and what was made before took its time.
        let now = now.plus(started.elapsed());
        let changes: Vec<Vec<SetChange>> = ops.iter().map(|op| changes(op, now)).collect();
        let counts: Vec<usize> = changes.iter().map(Vec::len).collect();
        let mut done = self.change(&changes.into_iter().flatten().collect::<Vec<_>>()).into_iter();
        let mut results = Vec::new();
        for (op, count) in ops.iter().zip(counts) {
            let result = done.by_ref().take(count).fold(Ok(()), Result::and);
            // Should a set be gone, the next one makes it again.
            *self.ready(ipv4) &= result.is_ok();
            let mut count = |by: i64, block: Option<&Block>| {
                if let Some(block) = block {
                    let each = i64::try_from(keys(op.scope(), block).len()).unwrap_or(0);
                    self.expected.entry(set_of(op.scope(), block)).or_default().add(by * each, block.until);
                }
            };
            count(-1, was(op).as_ref());
            count(1, op.block().filter(|_| result.is_ok()));
            results.push(result);
        }
        Ok(results)
    }

    fn change(&mut self, changes: &[SetChange]) -> Vec<Result<(), Error>> {
        let made = self.sets.change(changes);
        let explained = changes.iter().zip(made).map(|(SetChange { set, .. }, made)| match made {
            Ok(()) => Ok(()),
            Err(SetError::Full) => {
                let header = self.sets.header(set).map_err(failed(NAME))?;
                let size = header.map_or(SIZE, |header| header.size);
                Err(Error::Full { what: format!("ipset's set {set}"), size })
            }
            Err(SetError::Other(error)) => Err(failed(NAME)(error)),
        });
        explained.collect()
    }

    /// Whether somebody else changed a set.
    fn sets_changed(&mut self) -> Result<bool, Error> {
        let now = Timestamp::now();
        let mut changed = false;
        for (name, expected) in &mut self.expected {
            let header = self.sets.header(name).map_err(failed(NAME))?;
            changed |=
                !header.is_some_and(|header| header.keeps_notes && expected.explains(header.entries, now));
        }
        Ok(changed)
    }
}

impl Backend for Ipset {
    fn caps(&self) -> Caps {
        Caps { list_every: Some(LIST_EVERY), poll_every: Some(POLL), ..Caps::of(NAME) }
    }

    fn ensure(&mut self) -> Result<bool, Error> {
        self.find_programs()?;
        if !std::mem::replace(&mut self.warned, true)
            && let Some(warning) = saved_rules_warning(Path::new("/"))
        {
            let _ = writeln!(io::stderr(), "psentry-block: {NAME}: {warning}");
        }
        self.tables.subscribe()?;
        self.tables.expire_polled();
        let mut made = false;
        for ipv4 in FAMILIES {
            made |= unless_absent(ipv4, retried(|| self.set_up(ipv4)), false)?;
        }
        Ok(made)
    }

    fn list(&mut self) -> Result<Listing, Error> {
        self.find_programs()?;
        self.tables.expire_polled();
        let mut listing = Listing::default();
        for ipv4 in FAMILIES {
            let mut found = Vec::new();
            for name in sets(ipv4) {
                self.expected.remove(name);
                let elements = self.sets.elements(name).map_err(failed(NAME))?;
                let Some(elements) = elements else { continue };
                let now = Timestamp::now();
                let expected = self.expected.entry(name).or_default();
                for element in elements {
                    let entry = entry(name, &element, now);
                    expected.add(1, entry.as_ref().and_then(|entry| entry.until));
                    found.extend(entry.map(|entry| (name, entry)));
                }
            }
            if !found.is_empty()
                && let Some(rules) = unless_absent(ipv4, self.tables.rules(ipv4).map(Some), None)?
            {
                listing.shadowed.extend(rules.shadowing(ipv4, is_match));
            }
            listing.entries.extend(blocks(found, set_of));
        }
        Ok(listing)
    }

    fn apply(&mut self, ops: &[Op], now: Timestamp) -> Vec<Result<(), Error>> {
        by_family(ops, |ipv4, ops| self.apply_family(ipv4, ops, now))
    }

    fn events(&self) -> Option<BorrowedFd<'_>> {
        self.tables.events()
    }

    fn drift(&mut self) -> Result<Option<Drift>, Error> {
        let mut changed = self.tables.changed()?;
        // To count a hundred thousand entries takes the kernel milliseconds, and rules may change at any rate.
        if self.counted.is_none_or(|counted| counted.elapsed() > POLL / 2) {
            self.counted = Some(Instant::now());
            changed |= self.sets_changed()?;
        }
        if changed {
            self.ready = [false; 2];
        }
        Ok(changed.then(Drift::default))
    }

    fn purge(&mut self) -> Result<(), Error> {
        self.find_programs()?;
        let mut result = Ok(());
        for ipv4 in FAMILIES {
            let rules = self.tables.delete(ipv4, |rules| rules.deletions(is_match));
            result = result.and(unless_absent(ipv4, rules, ()));
            for name in sets(ipv4) {
                result = result.and(destroy(&mut self.sets, name));
            }
        }
        (self.ready, self.expected) = ([false; 2], BTreeMap::new());
        result
    }
}

/// What is there of the scope of an operation, as far as the engine knows.
fn was(op: &Op) -> Option<Block> {
    match op {
        Op::Put { was, .. } => was.as_ref().map(Block::from),
        Op::Delete { was, .. } => Some(was.clone()),
    }
}

/// The changes of an operation. What is to be there is added before what was there is deleted: its elements, and in any case
/// those of all ports.
fn changes(op: &Op, now: Timestamp) -> Vec<SetChange> {
    let scope = op.scope();
    let mut changes: Vec<SetChange> = Vec::new();
    if let Some(block) = op.block() {
        let (set, add) = (set_of(scope, block), (seconds(block, now), note::write(block)));
        changes.extend(keys(scope, block).into_iter().map(|key| SetChange {
            set,
            key,
            add: Some(add.clone()),
        }));
    }
    let was = was(op).filter(|was| !was.ports.is_empty());
    let old = was.iter().flat_map(|was| keys(scope, was).into_iter().map(|key| (set_of(scope, was), key)));
    let whole = [false, true].map(|unproven| (set(scope.is_ipv4(), false, unproven), (scope, None)));
    for (set, key) in old.chain(whole) {
        if !changes.iter().any(|change| change.set == set && change.key == key) {
            changes.push(SetChange { set, key, add: None });
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_of_a_scope_is_deleted_after_what_is_to_be_there_is_added() {
        let (scope, now) = ("192.0.2.7".parse().unwrap(), Timestamp::now());
        let whole = Block::default();
        let ports =
            Block { ports: vec![22, 53], proto: Some(psentry_records::Proto::Tcp), ..Block::default() };
        let fewer = Block { ports: vec![53], unproven: true, ..ports.clone() };
        let changes = |block: Option<&Block>, was: Option<&Block>| -> Vec<String> {
            let op = match block.cloned() {
                Some(block) => Op::Put { scope, block, was: was.map(|was| was.entry(scope)) },
                None => Op::Delete { scope, was: was.cloned().unwrap_or_default() },
            };
            let shown = |SetChange { set, key: (_, port), add }: SetChange| {
                let port = port.map(|(_, port)| format!(":{port}")).unwrap_or_default();
                format!("{}{}{port}", if add.is_some() { "+" } else { "-" }, set.replace("psentry4", ""))
            };
            super::changes(&op, now).into_iter().map(shown).collect()
        };
        assert_eq!(changes(Some(&whole), None), ["+", "-_unproven"]);
        assert_eq!(changes(None, Some(&whole)), ["-", "-_unproven"]);
        assert_eq!(changes(Some(&ports), None), ["+_ports:22", "+_ports:53", "-", "-_unproven"]);
        let fewer = changes(Some(&fewer), Some(&ports));
        assert_eq!(fewer, ["+_unproven_ports:53", "-_ports:22", "-_ports:53", "-", "-_unproven"]);
    }
}
