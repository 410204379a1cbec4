//! What people ask of psentry-block: each command is a question to the engine (`protocol.rs`), and its answer in words. The
//! engine that runs is asked on its control socket; where none runs, the same engine answers once in this process. So a command
//! has no other way to do anything, but for `panic`, which must work beside an engine that hangs.
//!
//! | file | what it holds |
//! |---|---|
//! | `change.rs` | `block`, `unblock`, `flush` |
//! | `query.rs` | `list`, `why` |
//! | `status.rs` | `status` |
//! | `panic.rs` | `panic`, `resume` |
//! | `render.rs`, `table.rs` | answers as sentences, tables and lines of JSON |

mod change;
mod panic;
mod query;
mod render;
mod status;
mod table;

use std::io::Write;
use std::time::Duration;

use psentry_control::{Silence, error_in};
use psentry_records::{Outcome, Record};
use psentry_stage::panic_file::PanicFile;
use psentry_stage::printable;

use crate::cli::{Command, Flags};
use crate::engine;
use crate::error::Error;
use crate::judge_fifo::JudgeFifo;
use crate::protocol::{Prospect, Question, Report, note_in};

/// How long a change may take: longer than the engine waits for its backends, and longer than the socket waits for the
/// engine, which then says that it hangs.
const CHANGING: Duration = Duration::from_secs(17);

/// How long the engine may take to say how it is.
const TELLING: Duration = Duration::from_secs(5);

/// What is said of an engine that does not answer.
const HANGS: &str = "psentry-block hangs, and does not answer";

/// Runs a command; outcomes that it prints are in the name of `host`.
///
/// # Errors
/// What went wrong, or that the answer is no, with the exit code that goes with it.
pub(crate) fn run(flags: &Flags, command: &Command, host: Option<&str>) -> Result<(), Error> {
    match command {
        Command::Block { scope, span, reason } => {
            change::block(flags, host, *scope, *span, reason.as_deref())
        }
        Command::Unblock { scope } => change::unblock(flags, host, *scope),
        Command::Flush => change::flush(flags, host),
        Command::List => query::list(flags, host),
        Command::Why { scope } => query::why(flags, host, *scope),
        Command::Status => status::status(flags, host),
        Command::Panic { reason } => panic::panic(&PanicFile::default(), flags, reason.as_deref()),
        Command::Resume => panic::resume(&PanicFile::default(), JudgeFifo::new(), flags, host),
    }
}

/// What the engine answered.
#[derive(Debug, Default)]
struct Answer {
    /// An engine that runs gave it, not one of this process.
    running: bool,
    outcomes: Vec<Outcome>,
    reports: Vec<Report>,
    prospect: Option<Prospect>,
    /// What is to be known besides.
    notes: Vec<String>,
    /// Why this is not all, as the engine that runs says.
    error: Option<String>,
    /// The same of the engine of this process.
    trouble: Option<Error>,
}

impl Answer {
    fn of(lines: &[String], running: bool) -> Self {
        let mut answer = Answer { running, ..Answer::default() };
        for line in lines {
            if let Ok(Record::Outcome(outcome)) = Record::parse(line) {
                answer.outcomes.push(outcome);
            } else if let Some(error) = error_in(line) {
                answer.error = Some(error);
            } else if let Some(note) = note_in(line) {
                answer.notes.push(printable(&note));
            } else if let Ok(prospect) = serde_json::from_str(line) {
                answer.prospect = Some(prospect);
            } else if let Ok(report) = serde_json::from_str::<Report>(line)
                && !report.backend.is_empty()
            {
                answer.reports.push(report);
            }
        }
        answer
    }

    /// Only what is of the backends that `--backend` names, if it names any; sorted.
    fn selected(mut self, flags: &Flags) -> Self {
        let chosen = flags.chosen();
        let meant = |name: &str| chosen.is_empty() || chosen.iter().any(|which| which.name() == name);
        self.outcomes.retain(|outcome| outcome.body.backend.as_deref().is_none_or(meant));
        self.reports.retain(|report| meant(&report.backend));
        self.outcomes.sort_by(|a, b| (a.body.scope, &a.body.backend).cmp(&(b.body.scope, &b.body.backend)));
        self.reports.sort_by(|a, b| a.backend.cmp(&b.backend));
        self
    }

    /// That something is missing, as the error that the program ends with.
    fn complete(&self) -> Result<(), Error> {
        let error = self.trouble.clone().or_else(|| self.error.clone().map(Error::Unfinished));
        error.map_or(Ok(()), Err)
    }
}

/// Asks the engine that runs.
fn ask_running(flags: &Flags, question: &Question, limit: Duration) -> Result<Answer, Silence> {
    let lines = psentry_control::ask(&flags.control_path(), &question.line(), limit)?;
    Ok(Answer::of(&lines, true))
}

/// Asks the engine of this process, where none runs.
fn ask_once(flags: &Flags, host: Option<&str>, question: &Question) -> Result<Answer, Error> {
    let (lines, trouble) = engine::answer_once(flags, host, question)?;
    Ok(Answer { trouble, ..Answer::of(&lines, false) })
}

/// Asks the engine that runs, or if there is none the one of this process.
fn ask(flags: &Flags, host: Option<&str>, question: &Question) -> Result<Answer, Error> {
    let limit = if question.changes() { CHANGING } else { TELLING };
    match ask_running(flags, question, limit) {
        Ok(answer) => {
            if question.changes() && !flags.backend.is_empty() {
                say("a psentry-block runs and uses its own backends: --backend has no effect beside it");
            }
            Ok(answer)
        }
        Err(Silence::Absent | Silence::Dead) => ask_once(flags, host, question),
        // What is there and what the journal wants can be read beside it.
        Err(Silence::Hangs) if !question.changes() => {
            say(&format!("{}: {}", flags.control_path().display(), read_beside(HANGS)));
            ask_once(flags, host, question)
        }
        Err(silence) => Err(unanswered(flags, silence)),
    }
}

/// That the answer is not that of an engine that runs, and why.
fn read_beside(why: &str) -> String {
    format!("{why}; this is what the journal wants, and what is there")
}

/// That the engine that runs does not answer, as the error that the program ends with.
fn unanswered(flags: &Flags, silence: Silence) -> Error {
    let path = flags.control_path();
    let path = path.display();
    match silence {
        Silence::Forbidden => {
            Error::Forbidden(format!("{path}: you may not ask this here; run this as root"))
        }
        Silence::Refused(why) => Error::Unfinished(format!("{path}: {why}")),
        Silence::Absent | Silence::Dead => Error::Unfinished(format!("{path}: no psentry-block answers")),
        Silence::Hangs => Error::Unfinished(format!(
            "{path}: {HANGS}; it may still do later what was asked. Restart it, or release everybody without it by \
             'psentry-block panic'"
        )),
    }
}

/// Says something on standard error.
fn say(sentence: &str) {
    let _ = writeln!(std::io::stderr(), "psentry-block: {sentence}");
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn what_is_known_is_read_and_what_is_asked_for_is_selected() {
        let outcome = |scope: &str, backend: &str| {
            format!(
                "{{\"timestamp\":\"2026-11-22T15:04:05Z\",\"event_type\":\"outcome\",\"outcome\":{{\"action\":\"block\",\
                 \"scope\":\"{scope}\",\"backend\":\"{backend}\",\"result\":\"already\"}}}}"
            )
        };
        let lines = [
            outcome("198.51.100.7", "route"),
            outcome("198.51.100.7", "nft"),
            outcome("192.0.2.7", "route"),
            "{\"backend\":\"route\",\"wanted\":1}".to_owned(),
            "{\"backend\":\"nft\",\"wanted\":1,\"error\":\"x\",\"of a later version\":1}".to_owned(),
            "{\"may_block\":false,\"why\":\"x\"}".to_owned(),
            "{\"what\":1}".to_owned(),
            "{\"note\":\"so\\u0007\"}".to_owned(),
            "{\"error\":\"nft is late\"}".to_owned(),
        ];
        let selected = |line: &str| {
            let answer = Answer::of(&lines, true);
            assert!(answer.prospect.is_some());
            assert_eq!(answer.notes, ["so\\u{7}"]);
            assert_eq!(answer.complete().unwrap_err().to_string(), "nft is late");
            let answer = answer.selected(&Flags::try_parse_from(line.split(' ')).unwrap());
            let blocks = answer
                .outcomes
                .iter()
                .map(|o| format!("{} {}", o.body.scope, o.body.backend.as_ref().unwrap()));
            let reports: Vec<String> = answer.reports.iter().map(|report| report.backend.clone()).collect();
            (blocks.collect::<Vec<_>>().join(", "), reports.join(", "))
        };
        let is = |blocks: &str, reports: &str| (blocks.to_owned(), reports.to_owned());
        assert_eq!(
            selected("x"),
            is("192.0.2.7/32 route, 198.51.100.7/32 nft, 198.51.100.7/32 route", "nft, route")
        );
        assert_eq!(selected("x --backend nft --backend exec"), is("198.51.100.7/32 nft", "nft"));
    }
}
