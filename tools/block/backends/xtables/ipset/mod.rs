//! Blocks as entries of ipset's sets, one for each family, more for single ports and for what is not proven, matched by rules
//! at the top of INPUT and FORWARD. The kernel expires them. `sets.rs` has the sets and their elements.

mod sets;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use psentry_linux::{ExpectedEntries, IpSets, Rule, Rules, SetChange, SetError};
use psentry_records::Timestamp;
use psentry_stage::speak;

use self::sets::{
    SIZE, creation, entry, is_of_ports, is_unproven, saved_rules_warning, seconds, set, set_of, sets,
};
use super::rules::{BUILTIN, DROP, answers, is_used, leading, place, shadowing};
use super::tables::Tables;
use super::{FAMILIES, POLL, by_family};
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
    /// What there should be in each set that was listed or changed.
    expected: BTreeMap<&'static str, ExpectedEntries>,
    /// When the sets were last counted.
    counted: Option<Instant>,
    /// It was looked whether saved rules would be loaded.
    warned: bool,
}

impl Ipset {
    /// # Errors
    /// When the kernel has no netlink.
    pub(crate) fn open(reach: Reach) -> Result<Self, Error> {
        let (tables, sets) = (Tables::new(NAME, &BUILTIN), IpSets::open()?);
        Ok(Ipset { tables, sets, reach, expected: BTreeMap::new(), counted: None, warned: false })
    }

    /// The families that this machine has.
    ///
    /// # Errors
    /// When iptables or ipset is not installed.
    fn families(&mut self) -> Result<Vec<bool>, Error> {
        installed(NAME, NAME)?;
        self.tables.families()
    }

    /// Makes those of the `wanted` sets of a family that are missing, and the rules of these and of all in which there is something,
    /// and deletes rules that other flags made; whether something was missing.
    fn set_up(&mut self, ipv4: bool, mut wanted: BTreeSet<&'static str>) -> Result<bool, Error> {
        // Without the family there are no rules, and nobody needs a set.
        self.tables.rules(ipv4)?;
        let mut made = false;
        for name in sets(ipv4) {
            let mut header = self.sets.header(name).map_err(failed(NAME))?;
            if header.is_some_and(|header| !header.keeps_notes) {
                // Somebody put another one in its place. No rule may match a set that is destroyed.
                self.tables.change(ipv4, |rules| rules.deletions(|rule| asks(rule, name)))?;
                self.destroy(name)?;
                header = None;
            }
            // What another run blocked stays blocked.
            if header.is_some_and(|header| header.entries > 0) {
                wanted.insert(name);
            }
            if header.is_none() && wanted.contains(name) {
                IpSets::create(&installed(NAME, NAME)?, &creation(name, ipv4)).map_err(failed(NAME))?;
                self.expected.remove(name);
                made = true;
            }
        }
        Ok(self.tables.change(ipv4, |rules| setup(self.reach, rules, ipv4, &wanted))? || made)
    }

    fn destroy(&mut self, name: &str) -> Result<(), Error> {
        self.sets.destroy(&installed(NAME, NAME)?, name).map_err(failed(NAME))
    }

    fn apply_family(
        &mut self,
        ipv4: bool,
        ops: &[&Op],
        now: Timestamp,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let started = Instant::now();
        let puts = ops.iter().filter_map(|op| op.block().map(|block| set_of(op.scope(), block)));
        let wanted: BTreeSet<&str> = puts.collect();
        // A set that no rule matches blocks nobody; one that a rule matches is there.
        if !wanted.is_empty() && !setup(self.reach, self.tables.rules(ipv4)?, ipv4, &wanted).is_empty() {
            self.set_up(ipv4, wanted)?;
        }
        // The kernel counts from now, and what was made before took its time.
        let now = now.plus(started.elapsed());
        let changes: Vec<Vec<SetChange>> = ops.iter().map(|op| changes(op, now)).collect();
        let mut made = self.change(&changes.concat()).into_iter();
        let mut results = Vec::new();
        for (op, changes) in ops.iter().zip(&changes) {
            let result = made.by_ref().take(changes.len()).fold(Ok(()), Result::and);
            let now_there = op.block().filter(|_| result.is_ok()).cloned();
            for (count, block) in [(-1, was(op)), (1, now_there)] {
                let Some(block) = block else { continue };
                let each = i64::try_from(keys(op.scope(), &block).len()).unwrap_or(0);
                let set = set_of(op.scope(), &block);
                self.expected.entry(set).or_default().add(count * each, block.until);
            }
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
        let families = self.families()?;
        if !std::mem::replace(&mut self.warned, true)
            && let Some(warning) = saved_rules_warning(Path::new("/"))
        {
            speak(&format!("psentry-block: {NAME}: {warning}"));
        }
        let mut made = false;
        for ipv4 in families {
            made |= self.set_up(ipv4, [set(ipv4, false, false)].into())?;
        }
        Ok(made)
    }

    fn list(&mut self) -> Result<Listing, Error> {
        let mut listing = Listing::default();
        let families = self.families()?;
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
            if !found.is_empty() && families.contains(&ipv4) {
                listing.shadowed.extend(shadowing(self.tables.rules(ipv4)?, ipv4, is_match));
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
        Ok(changed.then(Drift::default))
    }

    fn purge(&mut self) -> Result<(), Error> {
        let mut result = Ok(());
        for ipv4 in self.families()? {
            result = result.and(self.tables.change(ipv4, |rules| rules.deletions(is_match)).map(drop));
        }
        for name in FAMILIES.into_iter().flat_map(sets) {
            result = result.and(self.destroy(name));
        }
        self.expected.clear();
        result
    }
}

/// Whether a rule asks a set.
fn asks(rule: &Rule, set: &str) -> bool {
    rule.value("--match-set") == Some(set)
}

/// Whether a rule asks one of our sets.
pub(super) fn is_match(rule: &Rule) -> bool {
    FAMILIES.into_iter().flat_map(sets).any(|set| asks(rule, set))
}

/// The commands that make the rules of the `wanted` sets of a family, and of those that have rules.
fn setup(reach: Reach, rules: &Rules, ipv4: bool, wanted: &BTreeSet<&str>) -> Vec<String> {
    let is_asked = |name: &&str| wanted.contains(name) || rules.chain("INPUT").any(|rule| asks(rule, name));
    let sets: Vec<&str> = sets(ipv4).into_iter().filter(is_asked).collect();
    let place = |chain| place(rules, chain, &rules_of(reach, ipv4, chain, &sets), is_match);
    BUILTIN.into_iter().flat_map(place).collect()
}

/// The rules of a builtin chain, as `iptables -S` writes them.
fn rules_of(reach: Reach, ipv4: bool, chain: &str, sets: &[&str]) -> Vec<String> {
    let mut rules = Vec::new();
    for (egress, sides, ends) in
        [(false, ["src", "src,dst"], answers(reach, ipv4)), (true, ["dst", "dst,src"], [DROP; 2])]
    {
        for set in sets.iter().filter(|_| is_used(reach, chain, egress)) {
            let [side, with_port] = sides;
            let side = if is_of_ports(set) { with_port } else { side };
            rules.extend(leading(
                reach.spares(is_unproven(set)),
                &format!("-m set --match-set {set} {side} "),
                ends,
            ));
        }
    }
    rules
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

    #[test]
    fn each_flag_has_its_rules() {
        let sets = ["psentry4", "psentry4_ports"];
        let rules = |reach, chain| rules_of(reach, true, chain, &sets).join("\n");
        let plain =
            "-m set --match-set psentry4 src -j DROP\n-m set --match-set psentry4_ports src,dst -j DROP";
        assert_eq!(rules(Reach::default(), "INPUT"), plain);
        assert_eq!(rules(Reach::default(), "FORWARD"), plain);
        assert_eq!(rules(Reach::default(), "OUTPUT"), "");
        let local = Reach { forward: false, egress: true, ..Reach::default() };
        assert_eq!(rules(local, "FORWARD"), "");
        assert_eq!(
            rules(local, "OUTPUT"),
            "-m set --match-set psentry4 dst -j DROP\n-m set --match-set psentry4_ports dst,src -j DROP"
        );
        let spare = Reach {
            answer: crate::reach::Answer::Reject,
            established: crate::reach::Established::Spared,
            ..Reach::default()
        };
        assert_eq!(
            rules_of(spare, false, "INPUT", &sets[..1]),
            [
                "-p tcp -m tcp --tcp-flags RST,ACK NONE -m conntrack ! --ctstate RELATED,ESTABLISHED -m set \
                 --match-set psentry4 src -j REJECT --reject-with tcp-reset",
                "! -p tcp -m conntrack ! --ctstate RELATED,ESTABLISHED -m set --match-set psentry4 src -j REJECT \
                 --reject-with icmp6-adm-prohibited",
            ]
        );
        let egress = Reach { egress: true, ..Reach::default() };
        assert_eq!(
            rules_of(egress, true, "OUTPUT", &["psentry4", "psentry4_unproven"]),
            [
                "-m set --match-set psentry4 dst -j DROP",
                "-p tcp -m tcp --tcp-flags RST,ACK NONE -m conntrack ! --ctstate RELATED,ESTABLISHED -m set \
                 --match-set psentry4_unproven dst -j DROP",
                "! -p tcp -m conntrack ! --ctstate RELATED,ESTABLISHED -m set --match-set psentry4_unproven dst \
                 -j DROP",
            ]
        );
    }
}
