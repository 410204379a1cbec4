//! The table, its chains, its sets and their rules: read over netlink, and made by nft(8) where something is missing or not
//! as the flags ask for.

use std::collections::{BTreeMap, BTreeSet};

use psentry_linux::Error as SystemError;
use psentry_nftables as nftables;
use psentry_nftables::Verdict;

use super::super::{failed, installed};
use super::ruleset::{self, Action, Found, FoundChain, SPARE, SPARE_TCP, chains};
use super::set_id::SetId;
use super::{NAME, Nft, TableMonitor};
use crate::error::Error;

/// How often the ruleset is changed and read again, until it is found as it should be: others may change it meanwhile.
const TRIES: usize = 4;

impl Nft {
    /// The sets of our table that are ours.
    pub(super) fn find_sets(&mut self) -> Result<BTreeSet<SetId>, Error> {
        let sets = self.table.sets().map_err(failed(NAME))?;
        Ok(sets.iter().filter_map(SetId::of_set).collect())
    }

    /// All that is in our table.
    fn find_ruleset(&mut self) -> Result<Found, Error> {
        let mut found = Found::default();
        for set in self.table.sets().map_err(failed(NAME))?.into_iter().filter(|set| !set.is_anonymous) {
            match SetId::of_set(&set) {
                Some(ours) => _ = found.sets.insert(ours),
                None => found.wrong_sets.push(set.name),
            }
        }
        for nftables::Chain { name, hook } in self.table.chains().map_err(failed(NAME))? {
            found.chains.insert(name, FoundChain { at: hook, rules: BTreeSet::new() });
        }
        for rule in self.table.rules().map_err(failed(NAME))? {
            if let Some(chain) = found.chains.get_mut(&rule.chain) {
                chain.rules.insert(action(&rule, &found.sets));
            }
        }
        Ok(found)
    }

    /// The generation of the ruleset of all tables.
    pub(super) fn read_generation(&mut self) -> Result<u32, Error> {
        self.table.generation().map_err(failed(NAME))
    }

    /// As [`ensure_ruleset`](Self::ensure_ruleset), unless nothing has changed since it was found as it should be: whoever
    /// changed the ruleset may have deleted our rules, and without them no set drops anything.
    pub(super) fn ensure_unchanged(&mut self, wanted: &BTreeSet<SetId>) -> Result<(), Error> {
        let generation = self.read_generation()?;
        if !wanted.is_subset(&self.sets) || self.generation != Some(generation) {
            self.ensure_ruleset(wanted)?;
        }
        Ok(())
    }

    /// Makes the table, its chains, whichever of the sets `wanted` is missing, and the rules of every set; deletes chains
    /// and rules of other flags, and all that others made in the table; wakes a dormant table. Whether something had to be done.
    pub(super) fn ensure_ruleset(&mut self, wanted: &BTreeSet<SetId>) -> Result<bool, Error> {
        let mut failure = None;
        for tried in 0..=TRIES {
            // Before all that is read, so that a change after it is seen.
            let generation = self.read_generation()?;
            let found = self.find_ruleset()?;
            let sets: BTreeSet<SetId> = found.sets.union(wanted).copied().collect();
            let chains = chains(self.reach, &sets);
            let is_right = sets == found.sets
                && found.wrong_sets.is_empty()
                && found.chains == chains.iter().map(ruleset::Chain::found).collect::<BTreeMap<_, _>>();
            let dormant = self.table.is_dormant().map_err(failed(NAME))?;
            if is_right && !dormant {
                (self.sets, self.generation) = (sets, Some(generation));
                return Ok(tried > 0);
            }
            // A table is woken first, and changed in the next round: the kernel does not do both in one transaction.
            let text = if dormant {
                ruleset::wake()
            } else {
                ruleset::text(&chains, &sets, &found, self.table_comments)
            };
            failure = self.run_nft(&text).err();
            // nft before 0.9.7 knows no comments of tables.
            self.table_comments &= !matches!(&failure,
                Some(Error::System(SystemError::Program { stderr, .. })) if stderr.contains("syntax error"));
        }
        Err(failure.unwrap_or_else(contested))
    }

    /// Runs nft(8). Its change is our own, and no drift.
    fn run_nft(&mut self, text: &str) -> Result<(), Error> {
        let nft = installed(NAME, "nft")?;
        self.read_monitor(TableMonitor::read);
        nft.run_checked(&["-f", "-"], text.as_bytes())?;
        // The kernel has sent its notifications before it answers nft.
        self.read_monitor(TableMonitor::read_own);
        Ok(())
    }
}

/// What a rule does, if it is ours: by what becomes of the packet with these sets, and of one that accepts by its comment.
fn action(found: &nftables::Rule, sets: &BTreeSet<SetId>) -> Option<Action> {
    let set = found.set.as_deref().map(|name| SetId::from_name(name).filter(|set| sets.contains(set)));
    match (found.verdict?, set, found.comment.as_deref()) {
        (Verdict::Drop, Some(set), _) => set.map(Action::Drop),
        (Verdict::Reset, Some(set), _) => set.map(Action::Reset),
        (Verdict::Refuse, Some(set), _) => set.map(Action::Refuse),
        (Verdict::Accept, None, Some(SPARE)) => Some(Action::Spare),
        (Verdict::Accept, None, Some(SPARE_TCP)) => Some(Action::SpareTcp),
        _ => None,
    }
}

/// The ruleset was made, and was another one again each time it was read.
fn contested() -> Error {
    Error::NoEffect(
        "somebody else changes the rules of table inet psentry each time they are loaded; \
         if another psentry-block with other flags runs in this network namespace, end it"
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_ours_by_its_set_and_what_becomes_of_the_packet() {
        let action = |set: Option<&str>, verdict, comment: &str| {
            let (set, comment) = (set.map(str::to_owned), Some(comment.to_owned()));
            let chain = "prerouting".to_owned();
            let found = nftables::Rule { chain, set, verdict: Some(verdict), comment };
            action(&found, &SetId::FIRST.into())
        };
        let set = SetId::FIRST[0];
        assert_eq!(action(Some("v4_32"), Verdict::Drop, ""), Some(Action::Drop(set)));
        assert_eq!(action(Some("v4_32"), Verdict::Reset, ""), Some(Action::Reset(set)));
        assert_eq!(action(Some("v4_32"), Verdict::Refuse, ""), Some(Action::Refuse(set)));
        assert_eq!(action(Some("v4_32"), Verdict::Accept, SPARE), None);
        assert_eq!(action(Some("mine"), Verdict::Drop, ""), None);
        assert_eq!(action(Some("v4_31"), Verdict::Drop, ""), None, "a set that is not as ours are");
        assert_eq!(action(None, Verdict::Drop, ""), None);
        // One of an administrator that accepts some packets is not ours.
        assert_eq!(action(None, Verdict::Accept, SPARE), Some(Action::Spare));
        assert_eq!(action(None, Verdict::Accept, SPARE_TCP), Some(Action::SpareTcp));
        assert_eq!(action(None, Verdict::Accept, "my monitoring"), None);
    }
}
