//! Asks the engine that runs, or where none runs the same engine in this process.

use std::path::PathBuf;
use std::time::Duration;

use psentry_control::{Reply, Silence};
use psentry_local_time::Clock;
use psentry_records::{Outcome, Record};

use crate::cli::Flags;
use crate::engine;
use crate::error::Error;
use crate::outcomes::report;
use crate::protocol::{Prospect, Report};
use psentry_control::Question;

/// How long a change may take: longer than the engine waits for its backends, and longer than the socket waits for the
/// engine, which then says that it hangs.
const CHANGING: Duration = Duration::from_secs(17);

/// How long the engine may take to say how it is.
pub(super) const TELLING: Duration = Duration::from_secs(5);

/// A command that asks: its flags, and the field `host` of what it prints.
#[derive(Clone, Copy)]
pub(super) struct Client<'a> {
    pub(super) flags: &'a Flags,
    pub(super) host: Option<&'a str>,
}

/// What the engine answered.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// An engine that runs gave it, not one of this process.
    pub(super) running: bool,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) reports: Vec<Report>,
    pub(super) prospect: Option<Prospect>,
    /// What is to be known besides.
    pub(super) notes: Vec<String>,
    /// Why this is not all, as the engine says.
    pub(super) errors: Vec<String>,
    /// The same of the engine of this process, before it answered.
    pub(super) trouble: Option<Error>,
}

impl Answer {
    fn of(reply: Reply, running: bool) -> Self {
        let Reply { lines, notes, errors } = reply;
        let mut answer = Answer { running, notes, errors, ..Answer::default() };
        for line in &lines {
            if let Ok(Record::Outcome(outcome)) = Record::parse(line) {
                answer.outcomes.push(outcome);
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
    pub(super) fn selected(mut self, flags: &Flags) -> Self {
        let chosen = flags.chosen();
        let meant = |name: &str| chosen.is_empty() || chosen.iter().any(|which| which.name() == name);
        self.outcomes.retain(|outcome| outcome.body.backend.as_deref().is_none_or(meant));
        self.reports.retain(|report| meant(&report.backend));
        self.outcomes.sort_by(|a, b| (a.body.scope, &a.body.backend).cmp(&(b.body.scope, &b.body.backend)));
        self.reports.sort_by(|a, b| a.backend.cmp(&b.backend));
        self
    }

    /// That something is missing, as the error that the program ends with.
    pub(super) fn complete(&self) -> Result<(), Error> {
        match (&self.trouble, &*self.errors) {
            (Some(trouble), _) => Err(trouble.clone()),
            (None, []) => Ok(()),
            (None, errors) => Err(Error::Unfinished(errors.join("; "))),
        }
    }
}

impl Client<'_> {
    /// What time it is, for people.
    pub(super) fn clock(&self) -> Clock {
        Clock::new(self.flags.utc)
    }

    /// The socket of the engine.
    pub(super) fn path(&self) -> PathBuf {
        self.flags.control_path()
    }

    /// Asks the engine that runs, or if there is none the one of this process.
    pub(super) fn ask(&self, question: &Question) -> Result<Answer, Error> {
        let limit = if question.changes() { CHANGING } else { TELLING };
        match self.ask_running(question, limit) {
            Ok(answer) => {
                if question.changes() && !self.flags.backend.is_empty() {
                    report(
                        "a psentry-block runs and uses its own backends: --backend has no effect beside it",
                    );
                }
                Ok(answer)
            }
            Err(Silence::Absent | Silence::Dead) => self.ask_once(question),
            // What is there and what the journal wants can be read beside it.
            Err(silence @ Silence::Hangs) if !question.changes() => self.read_beside(&silence, question),
            Err(silence) => Err(self.unanswered(&silence)),
        }
    }

    /// Asks the engine that runs.
    pub(super) fn ask_running(&self, question: &Question, limit: Duration) -> Result<Answer, Silence> {
        psentry_control::ask(&self.path(), &question.line(), limit).map(|reply| Answer::of(reply, true))
    }

    /// Asks the engine of this process, where none runs.
    fn ask_once(&self, question: &Question) -> Result<Answer, Error> {
        let (lines, trouble) = engine::answer_once(self.flags, self.host, question)?;
        Ok(Answer { trouble, ..Answer::of(Reply::of(lines), false) })
    }

    /// The same beside one that does not answer, and says so.
    pub(super) fn read_beside(&self, silence: &Silence, question: &Question) -> Result<Answer, Error> {
        report(&format!("{}; this is what the journal wants, and what is there", self.sentence(silence)));
        self.ask_once(question)
    }

    /// That the engine that runs does not answer, as the error that the program ends with.
    pub(super) fn unanswered(&self, silence: &Silence) -> Error {
        let why = self.sentence(silence);
        match silence {
            Silence::Forbidden => Error::Forbidden(why),
            Silence::Hangs => Error::Unfinished(format!(
                "{why}; it may still do later what was asked. Restart it, or release everybody without it by \
                 'psentry-block panic'"
            )),
            _ => Error::Unfinished(why),
        }
    }

    fn sentence(&self, silence: &Silence) -> String {
        silence.sentence(&self.path(), "psentry-block")
    }
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
            let answer = Answer::of(Reply::of(lines.clone()), true);
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
