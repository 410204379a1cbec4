//! Blocks as rules of iptables: a chain PSENTRY, jumps to it at the top of INPUT and FORWARD, a rule per scope, and another one
//! where packets to the source are dropped, too. Every packet walks the rules, so that this is for
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

use self::blocks::{commands, entries};
pub(super) use self::chains::is_jump;
use self::chains::{CONCERNING, removal, setup};
use super::by_family;
use super::rules::shadowing;
use super::tables::{Tables, is_objection};
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
}

impl Backend for Iptables {
    fn caps(&self) -> Caps {
        Caps { expires: false, poll_every: self.tables.poll_every(), ..Caps::of(NAME) }
    }

    fn ensure(&mut self) -> Result<bool, Error> {
        let mut made = false;
        for ipv4 in self.tables.families()? {
            made |= self.tables.change(ipv4, |rules| setup(self.reach, rules, false))?;
        }
        Ok(made)
    }

    fn list(&mut self) -> Result<Listing, Error> {
        let mut listing = Listing::default();
        for ipv4 in self.tables.families()? {
            let rules = self.tables.rules(ipv4)?;
            let found = entries(self.reach, rules);
            if !found.is_empty() {
                listing.shadowed.extend(shadowing(rules, ipv4, is_jump));
            }
            listing.entries.extend(found);
        }
        Ok(listing)
    }

    fn apply(&mut self, ops: &[Op], _: Timestamp) -> Vec<Result<(), Error>> {
        by_family(ops, |ipv4, ops| {
            let mut run =
                |ops: &[&Op]| self.tables.change(ipv4, |rules| commands(self.reach, rules, ops)).map(drop);
            Ok(bisect(ops, &mut run, &mut PATIENCE.clone()))
        })
    }

    fn events(&self) -> Option<BorrowedFd<'_>> {
        self.tables.events()
    }

    fn drift(&mut self) -> Result<Option<Drift>, Error> {
        Ok(self.tables.changed()?.then(Drift::default))
    }

    fn purge(&mut self) -> Result<(), Error> {
        let families = self.tables.families()?.into_iter();
        let each: Vec<_> =
            families.map(|ipv4| self.tables.change(ipv4, |rules| removal(rules, &[]))).collect();
        each.into_iter().try_for_each(|purged| purged.map(drop))
    }
}

/// Runs operations, all together. If the program objects, they may be too many at once, or one of them
/// bad: then each half on its own, until each operation has its own result, or the program has failed too often. A lock that
/// another holds is no reason to run it again and again.
fn bisect<T>(
    ops: &[T],
    run: &mut impl FnMut(&[T]) -> Result<(), Error>,
    patience: &mut u32,
) -> Vec<Result<(), Error>> {
    match run(ops) {
        Err(error) if is_objection(&error) && ops.len() > 1 && *patience > 0 => {
            *patience -= 1;
            let (first, second) = ops.split_at(ops.len() / 2);
            let mut results = bisect(first, run, patience);
            results.extend(bisect(second, run, patience));
            results
        }
        result => vec![result; ops.len()],
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
        let ops: Vec<usize> = (0..count).collect();
        let mut runs = 0;
        let mut run = |ops: &[usize]| {
            runs += 1;
            if ops.iter().any(|op| bad(*op)) { Err(failure(code, stderr)) } else { Ok(()) }
        };
        let results = bisect(&ops, &mut run, &mut PATIENCE.clone());
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
