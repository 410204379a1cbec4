//! The table, its chains, its sets and their rules: read over netlink, and made by nft(8) where something is missing or not
//! as the flags ask for.

use std::collections::BTreeSet;

use psentry_linux::Error as SystemError;
use psentry_nftables as nftables;
use psentry_nftables::Verdict;

use super::super::{failed, installed};
use super::ruleset_plan::{Action, Chain, FoundRule, Plan, Ruleset};
use super::ruleset_text::{self, SPARE, SPARE_TCP};
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

    /// All that is in our table: the sets that are ours, and the rest.
    fn find_ruleset(&mut self) -> Result<(BTreeSet<SetId>, Ruleset), Error> {
        let sets = self.table.sets().map_err(failed(NAME))?;
        let chains = self.table.chains().map_err(failed(NAME))?;
        let rules = self.table.rules().map_err(failed(NAME))?;
        let ours: BTreeSet<SetId> = sets.iter().filter_map(SetId::of_set).collect();
        let is_wrong = |set: &&nftables::Set| !set.is_anonymous && SetId::of_set(set).is_none();
        let ruleset = Ruleset {
            chains: chains.iter().map(|chain| (chain.name.clone(), is_right(chain))).collect(),
            rules: rules.iter().filter_map(|found| rule(found, &ours)).collect(),
            wrong_sets: sets.iter().filter(is_wrong).map(|set| set.name.clone()).collect(),
        };
        Ok((ours, ruleset))
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
            let (found, ruleset) = self.find_ruleset()?;
            let missing: BTreeSet<SetId> = wanted.difference(&found).copied().collect();
            let sets: BTreeSet<SetId> = found.union(wanted).copied().collect();
            let plan = Plan::new(self.reach, &sets, &missing, &ruleset);
            let dormant = self.table.is_dormant().map_err(failed(NAME))?;
            if plan.is_empty() && !dormant {
                (self.sets, self.generation) = (sets, Some(generation));
                return Ok(tried > 0);
            }
            // A table is woken first, and changed in the next round: the kernel does not do both in one transaction.
            let text =
                if dormant { ruleset_text::wake() } else { ruleset_text::text(&plan, self.table_comments) };
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

/// Whether a chain is one of ours, at its hook with its priority.
fn is_right(found: &nftables::Chain) -> bool {
    let at = |chain: Chain| found.hook == Some((chain.hook as u32, chain.priority()));
    Chain::from_name(&found.name).is_some_and(at)
}

/// A rule in a chain of ours. It is ours by what it does with these sets, and one that accepts by its comment.
fn rule(found: &nftables::Rule, sets: &BTreeSet<SetId>) -> Option<FoundRule> {
    let ours = |name| SetId::from_name(name).filter(|set| sets.contains(set));
    let set = found.set.as_deref().map(ours);
    let action = match (set, found.verdict) {
        (Some(set), Some(Verdict::Drop)) => set.map(Action::Drop),
        (Some(set), Some(Verdict::Reset)) => set.map(Action::Reset),
        (Some(set), Some(Verdict::Refuse)) => set.map(Action::Refuse),
        (None, Some(Verdict::Accept)) if found.comment.as_deref() == Some(SPARE) => Some(Action::Spare),
        (None, Some(Verdict::Accept)) if found.comment.as_deref() == Some(SPARE_TCP) => {
            Some(Action::SpareTcp)
        }
        _ => None,
    };
    Some(FoundRule { chain: Chain::from_name(&found.chain)?, handle: found.handle, action })
}

/// The ruleset was made, and was another one again each time it was read.
fn contested() -> Error {
    Error::NoEffect(
        "somebody else changes the rules of table inet psentry whenever they are made; \
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
            let found = nftables::Rule { chain, handle: 258, set, verdict: Some(verdict), comment };
            rule(&found, &SetId::FIRST.into()).unwrap().action
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

    #[test]
    fn a_chain_is_right_at_the_hook_that_it_is_named_after() {
        let of = |name: &str, hook| is_right(&nftables::Chain { name: name.to_owned(), hook });
        assert!(of("input", Some((1, -300))));
        for hook in [Some((2, -300)), Some((1, -299)), None] {
            assert!(!of("input", hook));
        }
        assert!(!of("mine", Some((1, -300))));
    }
}
