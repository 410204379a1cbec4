//! Blocks by a command of the administrator's: a router, a provider's interface, a firewall that psentry does not
//! know. Its exit status says whether a block stands. It gets words, never a shell.

mod roll;
mod words;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use psentry_records::{Prefix, Proto, Timestamp};

use self::roll::{Line, Roll};
use self::words::Words;
use crate::backend::{Backend, Block, Change, Effect, Entry, Wish};
use crate::error::Error;
use crate::lock::runtime_directory;
use crate::program::{failure, locate, run};

const NAME: &str = "exec";

/// The name of the roll in the runtime directory.
const ROLL: &str = "exec.jsonl";

/// The backend.
pub(super) struct Exec {
    block: Option<Words>,
    undo: Option<Words>,
    timeout: Duration,
    roll: Roll,
}

impl Exec {
    pub(super) fn new(
        block: Option<&str>,
        undo: Option<&str>,
        timeout: Duration,
        roll: Option<PathBuf>,
    ) -> Result<Self, Error> {
        let split = |flag, command: Option<&str>| command.map(|c| Words::split(flag, c)).transpose();
        Ok(Exec {
            block: split("--exec", block)?,
            undo: split("--exec-undo", undo)?,
            timeout,
            roll: Roll::at(roll.unwrap_or_else(|| runtime_directory().join(ROLL))),
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

    fn change(&self, change: &Change, now: Timestamp) -> Result<Effect, Error> {
        let scope = change.scope;
        let stands = self.roll.read()?.into_iter().find(|line| line.scope == scope);
        match &change.wish {
            Wish::Block(block) => {
                // What stands exactly so need not be run again; a command may cost money.
                if stands.as_ref().is_some_and(|line| line.confirmed && line.until == block.until) {
                    return Ok(Effect::Done);
                }
                let words = self.block.as_ref().ok_or_else(no_command)?;
                let until = block.until;
                self.write(scope, Some(Line { scope, until, confirmed: false }), now)?;
                if let Err(error) = self.run(words, "block", scope, block, now) {
                    self.write(scope, stands, now)?;
                    return Err(error);
                }
                self.write(scope, Some(Line { scope, until, confirmed: true }), now)?;
                Ok(Effect::Done)
            }
            Wish::Release(block) => {
                let Some(line) = stands else { return Ok(Effect::WasNotThere) };
                match &self.undo {
                    Some(words) => self.run(words, "unblock", scope, block, now)?,
                    None if line.until.is_some_and(|until| until <= now) => {}
                    None => {
                        let why =
                            format!("{scope} was blocked by a command; --exec-undo has to say how to end it");
                        return Err(Error::Usage(why));
                    }
                }
                self.write(scope, None, now)?;
                Ok(Effect::Done)
            }
        }
    }

    /// Puts a line for a scope in place of what stood.
    fn write(&self, scope: Prefix, line: Option<Line>, now: Timestamp) -> Result<(), Error> {
        self.roll.rewrite(|lines| {
            // Nobody comes to take away what a command has ended itself.
            let over = |other: &Line| self.undo.is_none() && other.until.is_some_and(|until| until <= now);
            lines.retain(|other| other.scope != scope && !over(other));
            lines.extend(line);
        })
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
            "duration" => block.seconds_left(now).unwrap_or(0).to_string(),
            _ => scope.to_string(),
        };
        let mut command = Command::new(program(words)?);
        command.args(words.arguments(value)).env("PSENTRY_ACTION", action);
        for name in ["scope", "addr", "port", "proto", "duration"] {
            command.env(format!("PSENTRY_{}", name.to_uppercase()), value(name));
        }
        let ran = run(words.program(), command, b"", self.timeout)?;
        if ran.status.success() { Ok(()) } else { Err(failure(words.program(), &ran)) }
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
        Ok(self.roll.read()?.iter().map(entry).collect())
    }

    fn apply(&mut self, changes: &[Change], now: Timestamp) -> Vec<Result<Effect, Error>> {
        changes.iter().map(|change| self.change(change, now)).collect()
    }

    fn list(&mut self) -> Result<Vec<Entry>, Error> {
        let now = Timestamp::now();
        let mut lines = self.roll.read()?;
        // Without --exec-undo the command has ended these itself.
        lines.retain(|line| self.undo.is_some() || line.until.is_none_or(|until| until > now));
        Ok(lines.iter().map(entry).collect())
    }

    fn remove(&mut self) -> Result<Vec<Entry>, Error> {
        let entries = self.list()?;
        let now = Timestamp::now();
        let mut trouble = None;
        for line in self.roll.read()? {
            let block = Block { until: line.until, ..Block::default() };
            let done = self.change(&Change { scope: line.scope, wish: Wish::Release(block) }, now);
            trouble = trouble.or(done.err());
        }
        self.roll.remove_directory();
        trouble.map_or(Ok(entries), Err)
    }

    fn ends_by_itself(&self) -> bool {
        self.undo.is_none()
    }

    /// A command may take seconds, and its outcome is to be told at once.
    fn at_once(&self) -> usize {
        1
    }
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
