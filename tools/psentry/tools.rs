//! The tools that hold somebody shut out, and their control sockets: each is asked, and says for itself.

use std::path::PathBuf;
use std::time::Duration;

use psentry_control::{Reply, Silence, ask};
use psentry_records::{Outcome, Prefix, Record};

use crate::Error;
use crate::installed::Installed;

/// How long a tool may take to say how it is.
pub(crate) const TELLING: Duration = Duration::from_secs(5);

/// How long a change may take: longer than the tools wait for the kernel.
pub(crate) const CHANGING: Duration = Duration::from_secs(17);

/// A tool with a control socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tool {
    Trap,
    Block,
}

impl Tool {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Tool::Trap => "psentry-trap",
            Tool::Block => "psentry-block",
        }
    }
}

/// What a tool answered, or why not.
pub(crate) struct Answer {
    pub(crate) tool: Tool,
    pub(crate) path: PathBuf,
    pub(crate) reply: Result<Reply, Silence>,
}

impl Answer {
    /// The outcomes among its lines.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = Outcome> {
        self.lines().iter().filter_map(|line| match Record::parse(line) {
            Ok(Record::Outcome(outcome)) => Some(outcome),
            _ => None,
        })
    }

    /// Its own lines.
    pub(crate) fn lines(&self) -> &[String] {
        self.reply.as_ref().map_or(&[], |reply| &reply.lines)
    }

    /// Whether nobody listens there.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self.reply, Err(Silence::Absent | Silence::Dead))
    }
}

/// Asks both tools.
pub(crate) fn ask_all(installed: &Installed, question: &[u8], limit: Duration) -> [Answer; 2] {
    [(Tool::Trap, "TRAP"), (Tool::Block, "BLOCK")].map(|(tool, variable)| {
        let path = installed.socket(variable, tool.name());
        let reply = ask(&path, question, limit);
        Answer { tool, path, reply }
    })
}

/// Prints the notes beside the answers, and fails where one is missing that may hold somebody: who hangs or may not be asked.
///
/// # Errors
/// That the answers are not all.
pub(crate) fn complete(answers: &[Answer]) -> Result<(), Error> {
    let mut errors = Vec::new();
    for Answer { tool, path, reply } in answers {
        match reply {
            Ok(Reply { notes, errors: missing, .. }) => {
                notes.iter().for_each(|note| eprintln!("psentry: {note}"));
                errors.extend(missing.iter().map(|why| Error::new(psentry_stage::Exit::Os, why)));
            }
            Err(Silence::Absent | Silence::Dead) => {
                eprintln!(
                    "psentry: {} does not answer, and nothing of it is shown; see 'psentry status'",
                    tool.name()
                );
            }
            Err(silence) => errors.push(Error::silent(silence, path, tool.name())),
        }
    }
    if answers.iter().all(Answer::is_absent) {
        return Err(Error::no("no tool of psentry answers, so what is in the kernel is not known"));
    }
    errors.into_iter().next().map_or(Ok(()), Err)
}

/// The question who is shut out, or who of an address or prefix.
pub(crate) fn question(scope: Option<Prefix>) -> Vec<u8> {
    let question = match scope {
        None => serde_json::json!({ "ask": "list" }),
        Some(addr) => serde_json::json!({ "ask": "why", "addr": addr.to_string() }),
    };
    format!("{question}\n").into_bytes()
}
