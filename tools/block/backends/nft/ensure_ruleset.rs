//! The table, its chains, its sets and their rules: read over netlink, and made by nft(8) where something is missing or not
//! as the flags ask for.

use std::collections::BTreeSet;

use psentry_linux::Error as SystemError;

use super::super::{installed, nft_generation};
use super::ruleset_plan::{Plan, Ruleset};
use super::set_id::SetId;
use super::uapi::*;
use super::{NAME, Nft, decode, decode_rules, encode, ruleset_text};
use crate::error::Error;

/// How often the ruleset is changed and read again, until it is found as it should be: others may change it meanwhile.
const TRIES: usize = 4;

impl Nft {
    /// The sets of our table.
    pub(super) fn find_sets(&mut self) -> Result<BTreeSet<SetId>, Error> {
        let read = |message: &[u8]| decode::set(decode::body(message), NFTA_SET);
        let sets =
            self.dump("list the sets of table inet psentry", &encode::on_table(NFT_MSG_GETSET), read)?;
        Ok(sets.into_iter().flatten().collect())
    }

    /// Our chains, and the rules in them.
    pub(super) fn find_rules(&mut self) -> Result<Ruleset, Error> {
        let doing = "list the rules of table inet psentry";
        let chains = self.dump(doing, &encode::on_all(NFT_MSG_GETCHAIN), decode_rules::chain)?;
        let rules = self.dump(doing, &encode::on_table(NFT_MSG_GETRULE), decode_rules::rule)?;
        Ok(Ruleset {
            chains: chains.into_iter().flatten().collect(),
            rules: rules.into_iter().flatten().collect(),
        })
    }

    /// How many elements a set takes: one that an earlier version made may take fewer than ours.
    pub(super) fn set_size(&mut self, set: SetId) -> Option<u32> {
        self.query("read a set of table inet psentry", &encode::on_set(NFT_MSG_GETSET, set), decode::set_size)
            .ok()??
    }

    fn is_dormant(&mut self) -> Result<bool, Error> {
        let table = self.query(
            "read table inet psentry",
            &encode::on_table(NFT_MSG_GETTABLE),
            decode_rules::is_dormant,
        )?;
        Ok(table.unwrap_or(false))
    }

    /// The generation of the ruleset of all tables.
    pub(super) fn read_generation(&mut self) -> Result<u32, Error> {
        nft_generation::read(&mut self.link, NAME)
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
    /// and rules of other flags; wakes a dormant table. Whether something had to be done.
    pub(super) fn ensure_ruleset(&mut self, wanted: &BTreeSet<SetId>) -> Result<bool, Error> {
        let mut failure = None;
        for tried in 0..=TRIES {
            // Before all that is read, so that a change after it is seen.
            let generation = self.read_generation()?;
            let found = self.find_sets()?;
            let missing: BTreeSet<SetId> = wanted.difference(&found).copied().collect();
            let sets: BTreeSet<SetId> = found.union(wanted).copied().collect();
            let plan = Plan::new(self.reach, &sets, &missing, &self.find_rules()?);
            let dormant = self.is_dormant()?;
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
        self.monitor.read();
        nft.run_checked(&["-f", "-"], text.as_bytes())?;
        // The kernel has sent its notifications before it answers nft.
        self.monitor.read_own_transaction();
        Ok(())
    }
}

/// The ruleset was made, and was another one again each time it was read.
fn contested() -> Error {
    Error::NoEffect(
        "somebody else changes the rules of table inet psentry whenever they are made; \
         if another psentry-block with other flags runs in this network namespace, end it"
            .to_owned(),
    )
}
