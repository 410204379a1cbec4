//! Blocks by a command of the administrator's: a router, a provider's interface, a firewall that psentry does not
//! know. Its exit status says whether a block stands. It gets words, never a shell.
//!
//! | file | what it holds |
//! |---|---|
//! | `commands.rs`, `words.rs` | one change by a command; the words that it gets |
//! | `jobs.rs` | several beside each other |
//! | `roll.rs` | what commands have blocked |

mod commands;
mod jobs;
mod roll;
mod words;

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use psentry_records::{Prefix, Timestamp};

use self::commands::Commands;
use self::jobs::{Jobs, Over};
use self::roll::Line;
pub(super) use self::roll::Roll;
use self::words::Words;
use crate::backend::{Backend, Block, Change, Effect, Entry, Wish};
use crate::error::Error;

const NAME: &str = "exec";

/// The backend.
pub(super) struct Exec {
    commands: Arc<Commands>,
    jobs: Jobs,
    /// What was begun, and was over while another change was waited for.
    over: Vec<Over>,
}

impl Exec {
    pub(super) fn new(
        block: Option<&str>,
        undo: Option<&str>,
        timeout: Duration,
        roll: Roll,
        jobs: usize,
    ) -> Result<Self, Error> {
        let split = |flag, command: Option<&str>| command.map(|c| Words::split(flag, c)).transpose();
        let commands =
            Commands { block: split("--exec", block)?, undo: split("--exec-undo", undo)?, timeout, roll };
        Ok(Exec { commands: Arc::new(commands), jobs: Jobs::new(jobs)?, over: Vec::new() })
    }

    /// Whether both commands are there to be run.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.commands.check()
    }

    /// The lines of the roll that are confirmed, or not.
    fn lines(&self, confirmed: bool) -> Result<Vec<Entry>, Error> {
        let now = Timestamp::now();
        let mut lines = self.commands.roll.read()?;
        // Without --exec-undo the command has ended these itself.
        let over = |line: &Line| self.ends_by_itself() && line.until.is_some_and(|until| until <= now);
        lines.retain(|line| line.confirmed == confirmed && !over(line));
        Ok(lines.iter().map(entry).collect())
    }
}

impl Backend for Exec {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&mut self) -> Result<Vec<Entry>, Error> {
        self.check()?;
        self.commands.roll.directory()?;
        // An end that passed while nobody was there is dealt with like any other.
        Ok(self.commands.roll.read()?.iter().filter(|line| line.confirmed).map(entry).collect())
    }

    fn apply(&mut self, changes: &[Change], now: Timestamp) -> Vec<Result<Effect, Error>> {
        let mut results = BTreeMap::new();
        let mut rest = changes.iter();
        while results.len() < changes.len() {
            let begun = rest.by_ref().take(self.jobs.room());
            begun.for_each(|change| self.jobs.begin(&self.commands, change, now));
            let Some((change, result)) = self.jobs.wait() else { break };
            if changes.contains(&change) {
                results.insert(change.scope, result);
            } else {
                self.over.push((change, result));
            }
        }
        let lost = || Err(Error::Unfinished("a change has no result; this is a bug of psentry".to_owned()));
        changes.iter().map(|change| results.remove(&change.scope).unwrap_or_else(lost)).collect()
    }

    fn begin(&mut self, changes: &[Change], now: Timestamp) -> Vec<Option<Result<Effect, Error>>> {
        let begin = |change| {
            self.jobs.begin(&self.commands, change, now);
            None
        };
        changes.iter().map(begin).collect()
    }

    fn done(&mut self) -> Vec<Over> {
        let mut done = std::mem::take(&mut self.over);
        done.extend(self.jobs.over());
        done
    }

    fn watch(&self) -> Option<BorrowedFd<'_>> {
        Some(self.jobs.bell())
    }

    fn list(&mut self) -> Result<Vec<Entry>, Error> {
        self.lines(true)
    }

    fn unsure(&mut self) -> Result<Vec<Entry>, Error> {
        self.lines(false)
    }

    fn remove(&mut self) -> Result<Vec<Entry>, Error> {
        let now = Timestamp::now();
        let mut trouble = None;
        let mut entries = self.list()?;
        let doubtful = self.unsure()?;
        entries.extend(
            doubtful.into_iter().filter(|d| !entries.iter().any(|e| e.scope == d.scope)).collect::<Vec<_>>(),
        );
        let release = |line: Line| {
            let block = Block { until: line.until, unproven: line.unproven, ..Block::default() };
            (line.scope, Change { scope: line.scope, wish: Wish::Release(block) })
        };
        let releases: BTreeMap<Prefix, Change> =
            self.commands.roll.read()?.into_iter().map(release).collect();
        let releases: Vec<Change> = releases.into_values().collect();
        for (change, done) in releases.iter().zip(self.apply(&releases, now)) {
            if done.is_err() {
                entries.retain(|entry| entry.scope != change.scope);
            }
            trouble = trouble.or(done.err());
        }
        self.commands.roll.remove_directory();
        trouble.map_or(Ok(entries), Err)
    }

    fn ends_by_itself(&self) -> bool {
        self.commands.undo.is_none()
    }

    /// A command may take seconds, and its outcome is to be told soon: no more than run at a time.
    fn at_once(&self) -> usize {
        self.jobs.room()
    }
}

fn entry(line: &Line) -> Entry {
    Entry { unproven: line.unproven, ..Entry::new(line.scope, line.until, None) }
}

#[cfg(test)]
mod tests;
