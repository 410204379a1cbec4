//! Blocks by a command of the administrator's: at a router, at a provider, in a firewall that psentry does not know. Its exit
//! status says whether it has blocked. It gets words, never a shell.
//!
//! A command cannot be asked what it has blocked: the engine remembers that in its journal, and one that failed or was killed
//! may have blocked nevertheless. Nothing is remembered here, so that several of these work beside each other.

mod template;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use psentry_linux::{locate, run};
use psentry_records::{Proto, Timestamp};
use psentry_stage::printable;

use self::template::Template;
use crate::backend::{Backend, Caps, Listing, Op};
use crate::block::Block;
use crate::cli::Flags;
use crate::error::Error;

const NAME: &str = "exec";

/// How many commands run at a time, unless somebody knows better.
const JOBS: u8 = 4;

/// How long the backends after it wait for a command at most.
const PATIENCE: Duration = Duration::from_secs(10);

/// The backend.
pub(super) struct Exec {
    block: Option<Template>,
    undo: Option<Template>,
    timeout: Duration,
    jobs: usize,
}

impl Exec {
    pub(super) fn new(flags: &Flags) -> Result<Self, Error> {
        let split = |flag, command: &Option<String>| {
            command.as_deref().map(|command| Template::split(flag, command)).transpose()
        };
        Ok(Exec {
            block: split("--exec", &flags.exec)?,
            undo: split("--exec-undo", &flags.exec_undo)?,
            timeout: flags.exec_timeout,
            jobs: flags.exec_jobs.unwrap_or(JOBS).into(),
        })
    }

    /// Whether both commands are there to be run.
    pub(super) fn check(&self) -> Result<(), Error> {
        program(self.block()?)?;
        self.undo.as_ref().map(program).transpose().map(drop)
    }

    /// The command that blocks. `unblock` may be given the other one alone.
    fn block(&self) -> Result<&Template, Error> {
        self.block.as_ref().ok_or_else(|| Error::Usage("--backend exec needs --exec COMMAND".to_owned()))
    }

    fn apply_one(&self, op: &Op, now: Timestamp) -> Result<(), Error> {
        let (command, action, scope, block) = match (op, &self.undo) {
            (Op::Put { scope, block, .. }, _) => (self.block()?, "block", scope, block),
            (Op::Delete { scope, was }, Some(undo)) => (undo, "unblock", scope, was),
            // The command has ended it itself.
            (Op::Delete { was, .. }, None) if was.is_over(now) => return Ok(()),
            (Op::Delete { scope, .. }, None) => {
                let why = format!("{scope} was blocked by a command; --exec-undo has to say how to end it");
                return Err(Error::Usage(why));
            }
        };
        let value = |name: &str| match name {
            // The attacker where the verdict named one: of a whole network the first address says little, and of IPv6 nothing.
            "addr" => block.addr.unwrap_or_else(|| scope.addr()).to_string(),
            "port" => block.port.unwrap_or(0).to_string(),
            "proto" => block.proto.map_or("any", Proto::name).to_lowercase(),
            "duration" => duration(block, op.block().is_some(), now).to_string(),
            _ => scope.to_string(),
        };
        let mut process = Command::new(program(command)?);
        process.args(command.arguments(value));
        for name in template::PLACEHOLDERS {
            process.env(format!("PSENTRY_{}", name.to_uppercase()), value(name));
        }
        // For people: what came from outside is made harmless for a terminal, and is no word of the command.
        let text = |text: Option<&str>| text.map(printable).unwrap_or_default();
        process
            .env("PSENTRY_ACTION", action)
            .env("PSENTRY_RULE", text(block.rule.as_deref()))
            .env("PSENTRY_REASON", text(block.reason.as_deref()))
            .env("PSENTRY_HANDSHAKE", if block.unproven { "no" } else { "yes" })
            .env("PSENTRY_OFFENCE", block.offence.map_or_else(String::new, |offence| offence.to_string()));
        let output = run(command.program(), process, b"", self.timeout)?;
        if output.status.success() { Ok(()) } else { Err(output.failure(command.program()).into()) }
    }
}

impl Backend for Exec {
    fn caps(&self) -> Caps {
        Caps {
            // Without a command that ends them, the one that blocks is to end its blocks itself.
            expires: self.undo.is_none(),
            lists: false,
            journaled: true,
            lanes: self.jobs,
            // A command may take seconds, and its outcome is wanted soon.
            batch: 1,
            // A long time-out is for the command, and nobody else is to wait so long.
            patience: self.timeout.min(PATIENCE),
            ..Caps::of(NAME)
        }
    }

    fn ensure(&mut self) -> Result<bool, Error> {
        self.check().map(|()| false)
    }

    fn list(&mut self) -> Result<Listing, Error> {
        Ok(Listing::default())
    }

    fn apply(&mut self, ops: &[Op], now: Timestamp) -> Vec<Result<(), Error>> {
        ops.iter().map(|op| self.apply_one(op, now)).collect()
    }

    fn purge(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// The seconds that are left. To a command that blocks 0 means: for ever.
fn duration(block: &Block, blocks: bool, now: Timestamp) -> u64 {
    block.seconds_left(now).map_or(0, |left| left.max(u64::from(blocks)))
}

fn program(command: &Template) -> Result<PathBuf, Error> {
    let name = command.program();
    locate(name).ok_or_else(|| Error::Missing { backend: NAME, program: name.to_owned() })
}

#[cfg(test)]
mod tests;
