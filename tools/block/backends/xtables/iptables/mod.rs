//! Blocks as rules of iptables: one chain PSENTRY, jumps to it at the top of INPUT and FORWARD, a rule per scope; where
//! packets to the source are dropped, too, a second chain for them. Every packet walks the rules, so that this is for
//! some hundreds of blocks; ipset and nft take any number.
//!
//! | | |
//! |---|---|
//! | `chains.rs` | the chains, and the jumps to them |
//! | `blocks.rs` | operations as commands, and rules as blocks |

mod blocks;
mod chains;

use std::os::fd::BorrowedFd;

use psentry_records::Timestamp;

use self::blocks::{by_scope, commands, entries};
pub(super) use self::chains::is_jump;
use self::chains::{CONCERNING, setup};
use super::tables::{Tables, is_objection, retried};
use super::{FAMILIES, by_family, unless_absent};
use crate::backend::{Backend, Caps, Drift, Listing, Op};
use crate::error::Error;
use crate::reach::Reach;

const NAME: &str = "iptables";

/// How many times a batch that fails is halved. Two bad operations among a thousand are found with less.
const PATIENCE: u32 = 24;

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
                Ok(bisect(&commands, &mut |commands| self.tables.change(ipv4, commands)))
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
                listing.shadowed.extend(rules.shadowing(ipv4, is_jump));
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

/// Runs the commands of each operation, all together. If the program objects, they may be too many at once, or one of them
/// bad: then each half on its own, until each operation has its own result, or the program has failed too often. A lock that
/// another holds is no reason to run it again and again.
fn bisect(
    commands: &[Vec<String>],
    run: &mut impl FnMut(&[String]) -> Result<(), Error>,
) -> Vec<Result<(), Error>> {
    let mut patience = PATIENCE;
    halve(commands, run, &mut patience)
}

fn halve(
    commands: &[Vec<String>],
    run: &mut impl FnMut(&[String]) -> Result<(), Error>,
    patience: &mut u32,
) -> Vec<Result<(), Error>> {
    match run(&commands.concat()) {
        Err(error) if is_objection(&error) && commands.len() > 1 && *patience > 0 => {
            *patience -= 1;
            let (first, second) = commands.split_at(commands.len() / 2);
            let mut results = halve(first, run, patience);
            results.extend(halve(second, run, patience));
            results
        }
        result => vec![result; commands.len()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: i32, stderr: &str) -> Error {
        let (text, stderr) = (|| "x".to_owned(), stderr.to_owned());
        psentry_linux::Error::Program { program: text(), status: text(), code: Some(code), stderr }.into()
    }

    /// How often the program is run, and how many operations succeed, when those that are `bad` fail their batch.
    fn run(count: usize, code: i32, stderr: &str, bad: impl Fn(usize) -> bool) -> (u32, usize) {
        let commands: Vec<_> = (0..count).map(|n| vec![n.to_string()]).collect();
        let mut runs = 0;
        let results = bisect(&commands, &mut |commands| {
            runs += 1;
            if commands.iter().any(|command| bad(command.parse().unwrap())) {
                Err(failure(code, stderr))
            } else {
                Ok(())
            }
        });
        assert_eq!(results.len(), count);
        (runs, results.iter().filter(|result| result.is_ok()).count())
    }

    #[test]
    fn one_bad_operation_is_found_and_a_held_lock_is_left_alone() {
        assert_eq!(run(512, 2, "Bad argument", |n| n == 511), (19, 511));
        assert_eq!(run(512, 4, "RULE_DELETE failed: No such file or directory", |n| n == 511), (19, 511));
        let held = "Another app is currently holding the xtables lock";
        assert_eq!(run(512, 4, held, |n| n == 511), (1, 0));
        let (runs, _) = run(2000, 1, "", |_| true);
        assert!(runs <= 2 * PATIENCE + 1, "{runs}");
    }
}
