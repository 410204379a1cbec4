//! One change by a command: when it is run, with which words and surroundings, and what the roll says before and after.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use psentry_linux::{Error as Below, locate, run};
use psentry_records::{Prefix, Proto, Timestamp};
use psentry_stage::printable;

use super::NAME;
use super::roll::{Line, Roll};
use super::words::Words;
use crate::backend::{Block, Change, Effect, Wish};
use crate::error::Error;

/// The commands that block and that end a block, and what they have done.
pub(super) struct Commands {
    pub(super) block: Option<Words>,
    pub(super) undo: Option<Words>,
    pub(super) timeout: Duration,
    pub(super) roll: Roll,
}

impl Commands {
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

    /// Makes a change. Of one scope there is one at a time.
    pub(super) fn change(&self, change: &Change, now: Timestamp) -> Result<Effect, Error> {
        let scope = change.scope;
        let lines: Vec<Line> = self.roll.read()?.into_iter().filter(|line| line.scope == scope).collect();
        match &change.wish {
            Wish::Block(block) => {
                let Block { until, unproven, .. } = *block;
                // What stands exactly so need not be run again; a command may cost money.
                if matches!(&*lines, [line] if line.confirmed && (line.until, line.unproven) == (until, unproven))
                {
                    return Ok(Effect::Done);
                }
                let words = self.block.as_ref().ok_or_else(no_command)?;
                let doubt = lines.iter().cloned().chain([Line { scope, until, unproven, confirmed: false }]);
                self.write(scope, doubt.collect(), now)?;
                if let Err(error) = self.run(words, "block", scope, block, now) {
                    // A command that failed half-way may have blocked, so that its line stays, for the undo; one that
                    // was never run did nothing.
                    if matches!(error, Error::System(Below::NotStarted { .. }) | Error::Missing { .. }) {
                        self.write(scope, lines, now)?;
                    }
                    return Err(error);
                }
                self.write(scope, vec![Line { scope, until, unproven, confirmed: true }], now)?;
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
            .env("PSENTRY_HANDSHAKE", if block.unproven { "no" } else { "yes" })
            .env("PSENTRY_OFFENCE", block.offence.map_or_else(String::new, |offence| offence.to_string()));
        let ran = run(words.program(), command, b"", self.timeout)?;
        if ran.status.success() { Ok(()) } else { Err(ran.failure(words.program()).into()) }
    }
}

/// The seconds that are left. To a command that blocks 0 means: for ever.
pub(super) fn duration(block: &Block, action: &str, now: Timestamp) -> u64 {
    let least = u64::from(action == "block");
    block.seconds_left(now).map_or(0, |left| left.max(least))
}

fn no_command() -> Error {
    Error::Usage("--backend exec needs --exec COMMAND".to_owned())
}

fn program(words: &Words) -> Result<PathBuf, Error> {
    let name = words.program();
    locate(name).ok_or_else(|| Error::Missing { backend: NAME, program: name.to_owned() })
}
