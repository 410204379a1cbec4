//! Blocks as rules of iptables: one chain PSENTRY, jumps to it at the top of INPUT and FORWARD, a rule per scope; where
//! packets to the source are dropped, too, a second chain for them. Every packet walks the rules, so that this is for
//! some hundreds of blocks; ipset and nft take any number.
//!
//! | | |
//! |---|---|
//! | `chains.rs` | the chains, and the jumps to them |
//! | `block_rules.rs` | a block as rules, and back |
//! | `rule_diff.rs` | operations as commands |
//! | `bisect.rs` | many of them together |

mod bisect;
mod block_rules;
mod chains;
mod rule_diff;

use std::os::fd::BorrowedFd;

use psentry_records::Timestamp;

pub(super) use self::chains::is_jump;
use self::chains::{CONCERNING, setup};
use self::rule_diff::{by_scope, commands, entries};
use super::tables::{Tables, is_objection, retried};
use super::{FAMILIES, by_family, shadowing, unless_absent};
use crate::backend::{Backend, Caps, Drift, Listing, Op};
use crate::error::Error;
use crate::reach::Reach;

const NAME: &str = "iptables";

/// The backend.
pub(crate) struct Iptables {
    tables: Tables,
    reach: Reach,
}

impl Iptables {
    pub(crate) fn new(reach: Reach) -> Self {
        Iptables { tables: Tables::new(NAME, &CONCERNING), reach }
    }

    /// Makes what is missing of chains and jumps of a family, those of what is not proven if something is; whether something
    /// was missing.
    fn set_up(&mut self, ipv4: bool, unproven: bool) -> Result<bool, Error> {
        let commands = setup(self.reach, self.tables.rules(ipv4)?, unproven);
        self.tables.change(ipv4, &commands)?;
        Ok(!commands.is_empty())
    }

    /// The commands of each operation, in chains that are there.
    fn commands(&mut self, ipv4: bool, ops: &[&Op]) -> Result<Vec<Vec<String>>, Error> {
        let mut blocks = ops.iter().filter_map(|op| op.block()).peekable();
        // Who only deletes makes nothing.
        if blocks.peek().is_some() {
            self.set_up(ipv4, blocks.any(|block| block.unproven))?;
        }
        let rules = by_scope(self.tables.rules(ipv4)?);
        Ok(ops.iter().map(|op| commands(self.reach, &rules, op)).collect())
    }

    fn apply_family(&mut self, ipv4: bool, ops: &[&Op]) -> Result<Vec<Result<(), Error>>, Error> {
        let together = retried(|| {
            let commands = self.commands(ipv4, ops)?;
            self.tables.change(ipv4, &commands.concat())
        });
        match together {
            Err(error) if is_objection(&error) && ops.len() > 1 => {
                let commands = self.commands(ipv4, ops)?;
                Ok(bisect::change(&commands, &mut |commands| self.tables.change(ipv4, commands)))
            }
            result => result.map(|()| vec![Ok(()); ops.len()]),
        }
    }
}

impl Backend for Iptables {
    fn caps(&self) -> Caps {
        Caps { expires: false, poll_every: self.tables.poll_every(), ..Caps::of(NAME) }
    }

    fn ensure(&mut self) -> Result<bool, Error> {
        self.tables.find_programs()?;
        self.tables.subscribe()?;
        self.tables.expire_polled();
        let mut made = false;
        for ipv4 in FAMILIES {
            made |= unless_absent(ipv4, retried(|| self.set_up(ipv4, false)), false)?;
        }
        Ok(made)
    }

    fn list(&mut self) -> Result<Listing, Error> {
        self.tables.find_programs()?;
        self.tables.expire_polled();
        let mut listing = Listing::default();
        for ipv4 in FAMILIES {
            let Some(rules) = unless_absent(ipv4, self.tables.rules(ipv4).map(Some), None)? else { continue };
            let found = entries(self.reach, &by_scope(rules));
            if !found.is_empty() {
                listing.shadowed.extend(shadowing::reasons(rules, ipv4, is_jump));
            }
            listing.entries.extend(found);
        }
        Ok(listing)
    }

    fn apply(&mut self, ops: &[Op], _: Timestamp) -> Vec<Result<(), Error>> {
        by_family(ops, |ipv4, ops| self.apply_family(ipv4, ops))
    }

    fn events(&self) -> Option<BorrowedFd<'_>> {
        self.tables.events()
    }

    fn drift(&mut self) -> Result<Option<Drift>, Error> {
        Ok(self.tables.changed()?.then(Drift::default))
    }

    fn purge(&mut self) -> Result<(), Error> {
        self.tables.find_programs()?;
        let each = FAMILIES.map(|ipv4| unless_absent(ipv4, self.tables.delete(ipv4, chains::purge), ()));
        each.into_iter().collect()
    }
}
