//! Blocks by a command of the administrator's: a router, a provider's interface, a firewall that psentry does not
//! know. Its exit status says whether a block stands. It gets words, never a shell.

mod roll;
mod words;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use psentry_kernel::{Error as Below, failure, locate, run};
use psentry_records::{Prefix, Proto, Timestamp};
use psentry_stage::printable;

use self::roll::{Line, Roll};
use self::words::Words;
use crate::backend::{Backend, Block, Change, Effect, Entry, Wish};
use crate::error::Error;
use crate::lock::runtime_directory;

const NAME: &str = "exec";

/// The name of the roll in the runtime directory.
const ROLL: &str = "exec.jsonl";

/// The backend.
pub(super) struct Exec {
    block: Option<Words>,
    undo: Option<Words>,
    timeout: Duration,
    roll: Roll,
    jobs: usize,
}

impl Exec {
    pub(super) fn new(
        block: Option<&str>,
        undo: Option<&str>,
        timeout: Duration,
        roll: Option<PathBuf>,
        jobs: usize,
    ) -> Result<Self, Error> {
        let split = |flag, command: Option<&str>| command.map(|c| Words::split(flag, c)).transpose();
        Ok(Exec {
            block: split("--exec", block)?,
            undo: split("--exec-undo", undo)?,
            timeout,
            roll: roll.map_or_else(|| Roll::of_ours(runtime_directory().join(ROLL)), Roll::at),
            jobs,
        })
    }

    /// Whether both commands are there to be run.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.block.is_none() {
            return Err(no_command());
        }
        for words in [&self.block, &self.undo].into_iter().flatten() {
            program(words)?;
        }
        Ok(())
    }

    /// Makes changes, each of another scope, some at a time.
    fn together(&self, changes: &[Change], now: Timestamp) -> Vec<Result<Effect, Error>> {
        let results: Vec<OnceLock<Result<Effect, Error>>> = changes.iter().map(|_| OnceLock::new()).collect();
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(at) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|at| *at < changes.len()) {
                if let (Some(change), Some(result)) = (changes.get(at), results.get(at)) {
                    let _ = result.set(self.change(change, now));
                }
            }
        };
        thread::scope(|scope| {
            // Without a thread there is one job less. This one works, too.
            for _ in 1..self.jobs.min(changes.len()) {
                let _ = thread::Builder::new().name("exec: job".to_owned()).spawn_scoped(scope, work);
            }
            work();
        });
        let lost = || Err(Error::Unfinished("a change has no result; this is a bug of psentry".to_owned()));
        results.into_iter().map(|result| result.into_inner().unwrap_or_else(lost)).collect()
    }

    fn change(&self, change: &Change, now: Timestamp) -> Result<Effect, Error> {
        let scope = change.scope;
        let lines: Vec<Line> = self.roll.read()?.into_iter().filter(|line| line.scope == scope).collect();
        match &change.wish {
            Wish::Block(block) => {
                let until = block.until;
                // What stands exactly so need not be run again; a command may cost money.
                if matches!(&*lines, [line] if line.confirmed && line.until == until) {
                    return Ok(Effect::Done);
                }
                let words = self.block.as_ref().ok_or_else(no_command)?;
                let doubt = lines.iter().cloned().chain([Line { scope, until, confirmed: false }]);
                self.write(scope, doubt.collect(), now)?;
                if let Err(error) = self.run(words, "block", scope, block, now) {
                    // A command that failed half-way may have blocked, so that its line stays, for the undo; one that
                    // was never run did nothing.
                    if matches!(error, Error::System(Below::NotRun { .. }) | Error::Missing { .. }) {
                        self.write(scope, lines, now)?;
                    }
                    return Err(error);
                }
                self.write(scope, vec![Line { scope, until, confirmed: true }], now)?;
                Ok(Effect::Done)
            }
            Wish::Release(block) => {
                if lines.is_empty() {
                    return Ok(Effect::WasNotThere);
                }
                let over = |line: &Line| line.until.is_some_and(|until| until <= now);
                match &self.undo {
                    Some(words) => self.run(words, "unblock", scope, block, now)?,
                    None if lines.iter().all(over) => {}
                    None => {
                        let why =
                            format!("{scope} was blocked by a command; --exec-undo has to say how to end it");
                        return Err(Error::Usage(why));
                    }
                }
                self.write(scope, Vec::new(), now)?;
                Ok(Effect::Done)
            }
        }
    }

    /// Puts the lines for a scope in place of what stood, of each kind the last.
    fn write(&self, scope: Prefix, new: Vec<Line>, now: Timestamp) -> Result<(), Error> {
        self.roll.rewrite(|lines| {
            // Nobody comes to take away what a command has ended itself.
            let over = |other: &Line| self.undo.is_none() && other.until.is_some_and(|until| until <= now);
            lines.retain(|other| other.scope != scope && !over(other));
            for confirmed in [true, false] {
                lines.extend(new.iter().rev().find(|line| line.confirmed == confirmed).cloned());
            }
        })
    }

    /// The lines of the roll that are confirmed, or not.
    fn lines(&self, confirmed: bool) -> Result<Vec<Entry>, Error> {
        let now = Timestamp::now();
        let mut lines = self.roll.read()?;
        // Without --exec-undo the command has ended these itself.
        let over = |line: &Line| self.undo.is_none() && line.until.is_some_and(|until| until <= now);
        lines.retain(|line| line.confirmed == confirmed && !over(line));
        Ok(lines.iter().map(entry).collect())
    }

    fn run(
        &self,
        words: &Words,
        action: &str,
        scope: Prefix,
        block: &Block,
        now: Timestamp,
    ) -> Result<(), Error> {
        let value = |name: &str| match name {
            "addr" => scope.addr().to_string(),
            "port" => block.port.unwrap_or(0).to_string(),
            "proto" => block.proto.map_or("any", Proto::name).to_lowercase(),
            "duration" => duration(block, action, now).to_string(),
            _ => scope.to_string(),
        };
        let mut command = Command::new(program(words)?);
        command.args(words.arguments(value)).env("PSENTRY_ACTION", action);
        for name in ["scope", "addr", "port", "proto", "duration"] {
            command.env(format!("PSENTRY_{}", name.to_uppercase()), value(name));
        }
        // For people: what came from outside is made harmless for a terminal, and is no word of the command.
        let told = |text: Option<&str>| text.map(printable).unwrap_or_default();
        command
            .env("PSENTRY_RULE", told(block.rule.as_deref()))
            .env("PSENTRY_REASON", told(block.reason.as_deref()))
            .env("PSENTRY_OFFENCE", block.offence.map_or_else(String::new, |offence| offence.to_string()));
        let ran = run(words.program(), command, b"", self.timeout)?;
        if ran.status.success() { Ok(()) } else { Err(failure(words.program(), &ran).into()) }
    }
}

impl Backend for Exec {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&mut self) -> Result<Vec<Entry>, Error> {
        self.check()?;
        self.roll.directory()?;
        // An end that passed while nobody was there is dealt with like any other.
        Ok(self.roll.read()?.iter().filter(|line| line.confirmed).map(entry).collect())
    }

    fn apply(&mut self, changes: &[Change], now: Timestamp) -> Vec<Result<Effect, Error>> {
        self.together(changes, now)
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
            let block = Block { until: line.until, ..Block::default() };
            (line.scope, Change { scope: line.scope, wish: Wish::Release(block) })
        };
        let releases: BTreeMap<Prefix, Change> = self.roll.read()?.into_iter().map(release).collect();
        let releases: Vec<Change> = releases.into_values().collect();
        for (change, done) in releases.iter().zip(self.together(&releases, now)) {
            if done.is_err() {
                entries.retain(|entry| entry.scope != change.scope);
            }
            trouble = trouble.or(done.err());
        }
        self.roll.remove_directory();
        trouble.map_or(Ok(entries), Err)
    }

    fn ends_by_itself(&self) -> bool {
        self.undo.is_none()
    }

    /// A command may take seconds, and its outcome is to be told soon: no more than run at a time.
    fn at_once(&self) -> usize {
        self.jobs
    }
}

/// The seconds that are left. To a command that blocks 0 means: for ever.
fn duration(block: &Block, action: &str, now: Timestamp) -> u64 {
    let least = u64::from(action == "block");
    block.seconds_left(now).map_or(0, |left| left.max(least))
}

fn entry(line: &Line) -> Entry {
    Entry::new(line.scope, line.until, None)
}

fn no_command() -> Error {
    Error::Usage("--backend exec needs --exec COMMAND".to_owned())
}

fn program(words: &Words) -> Result<PathBuf, Error> {
    let name = words.program();
    locate(name).ok_or_else(|| Error::Missing { backend: NAME, program: name.to_owned() })
}

#[cfg(test)]
mod tests;
