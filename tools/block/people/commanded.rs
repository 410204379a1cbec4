//! Blocks that a command of the administrator's made, when somebody ends them: how to do that says `--exec-undo`, which the
//! running psentry-block has and who ends them by hand need not know. So it is left to the running one, if it answers.

use std::time::Duration;

use psentry_records::{
    Action, Common, OutcomeBody, OutcomeResult, Prefix, Record, Timestamp, Verdict, VerdictBody,
};
use psentry_stage::printable;

use super::Report;
use crate::cli::{Flags, Which};
use crate::control::client::{DOING, What, ask};
use crate::control::{self, Letting};
use crate::error::Error;

/// Whether that is to be left to whoever runs: this command line does not say how to do it.
pub(crate) fn is_left(flags: &Flags, which: Which) -> bool {
    which == Which::Exec && flags.exec_undo.is_none()
}

/// Has a running psentry-block end the block of a scope, and says what came of it; `None`: none answers that could.
pub(crate) fn end(flags: &Flags, scope: Prefix) -> Option<OutcomeBody> {
    let verdict =
        Verdict { common: Common::at(Timestamp::now()), body: VerdictBody::new(Action::Unblock, scope) };
    let lines = ask(&control::path(flags), &What::Do(&verdict), DOING).ok()?;
    lines.iter().filter_map(|line| of_exec(line)).next_back()
}

/// Has a running psentry-block end all of them, and says what came of each, and what is not done; `None`: none answers that
/// could.
pub(crate) fn end_all(flags: &Flags) -> Option<(Vec<OutcomeBody>, Option<Error>)> {
    let lines = ask(&control::path(flags), &What::LetIn(Which::Exec.name(), true), DOING).ok()?;
    let late = lines.iter().find_map(|line| serde_json::from_str::<Report>(line).ok()?.error);
    let late = late.map(|why| Error::Unfinished(format!("{}; it goes on", printable(&why))));
    let outcomes: Vec<OutcomeBody> = lines.iter().filter_map(|line| of_exec(line)).collect();
    let unfinished = trouble(&outcomes).or(late);
    does(&lines).then_some((outcomes, unfinished))
}

/// Has a running psentry-block end all of them, without waiting for that, nor for its answer longer than `limit`; `false`:
/// none answers that could.
pub(crate) fn end_all_soon(flags: &Flags, limit: Duration) -> bool {
    let answered = ask(&control::path(flags), &What::LetIn(Which::Exec.name(), false), limit);
    answered.is_ok_and(|lines| does(&lines))
}

/// What is not done, as the error that a command ends with.
pub(crate) fn trouble(outcomes: &[OutcomeBody]) -> Option<Error> {
    let failed = outcomes.iter().find(|outcome| outcome.result == OutcomeResult::Failed)?;
    let why = failed.error.as_deref().unwrap_or("it is not known why");
    let name = Which::Exec.name();
    Some(Error::Unfinished(format!(
        "{name}: the running psentry-block could not let in {}: {why}",
        failed.scope
    )))
}

/// Whether it has such a backend.
fn does(lines: &[String]) -> bool {
    let letting = lines.iter().find_map(|line| serde_json::from_str::<Letting>(line).ok());
    letting.is_some_and(|letting| letting.letting_in.iter().any(|name| name == Which::Exec.name()))
}

fn of_exec(line: &str) -> Option<OutcomeBody> {
    match Record::parse(line) {
        Ok(Record::Outcome(outcome)) => Some(outcome.body),
        _ => None,
    }
    .filter(|outcome| outcome.backend.as_deref() == Some(Which::Exec.name()))
}
