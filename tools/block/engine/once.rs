//! One question, where no engine runs: the same engine is made, answers it, and is gone. It holds the lock on the journal, so
//! that two of them do not meet; a question that changes nothing needs none. Only what was asked is done: what the journal wants
//! besides is put back by the next psentry-block that runs.

use std::cell::RefCell;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use psentry_stage::{Bell, Exit, Failure};

use super::backend_state::BackendState;
use super::start::Purpose;
use super::{Engine, Reply};
use crate::backends;
use crate::cli::{Flags, Which};
use crate::error::Error;
use crate::journal::Journal;
use crate::outcomes::report;
use crate::settings;
use psentry_control::Question;

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Answers a question; the lines of the answer, and why it is not all of it.
///
/// # Errors
/// When nothing can be asked, or another psentry-block keeps the journal.
pub(crate) fn answer_once(
    flags: &Flags,
    host: Option<&str>,
    question: &Question,
) -> Result<(Vec<String>, Option<Error>), Error> {
    let mut chosen = flags.chosen();
    let blocks = matches!(question, Question::Verdict(verdict) if verdict.body.action == psentry_records::Action::Block);
    match (blocks, chosen.is_empty()) {
        (true, true) => chosen.push(Which::Nft),
        (true, false) => settings::fit(&chosen, flags)?,
        // All that this machine has.
        (false, _) => chosen = available(flags, &chosen)?,
    }
    let never = Bell::new().map_err(Error::system("open an eventfd"))?;
    let purpose = match question {
        _ if blocks => Purpose::Block,
        Question::Verdict(_) | Question::Flush => Purpose::Release,
        Question::List | Question::Why { .. } | Question::Status | Question::Confirm => Purpose::Read,
    };
    let host = host.map(str::to_owned);
    let mut engine = Engine::start(flags, host, chosen, None, never.as_fd(), purpose)?;
    let trouble = engine.select(question, flags.backend.is_empty())?;
    if engine.backends.is_empty() && trouble.is_some() {
        return Ok((Vec::new(), trouble));
    }
    let lines = Rc::new(RefCell::new(Vec::new()));
    let kept = Rc::clone(&lines);
    let reply = Reply::new(move |more| kept.borrow_mut().extend(more));
    engine.ask(question.clone(), reply);
    let deadline = Instant::now() + PATIENCE;
    engine.step();
    let over = |engine: &Engine| engine.is_settled() && engine.questions.is_empty() && !engine.has_to_tell();
    while Instant::now() < deadline && !over(&engine) {
        engine.wait(engine.idle_for());
        engine.step();
    }
    let ends = matches!(question, Question::Verdict(verdict) if blocks && verdict.body.duration.is_some());
    if ends {
        for state in engine.backends.iter().filter(|state| !state.caps.expires) {
            let name = state.caps.name;
            report(&format!("{name}: no psentry-block runs, and the next one that starts ends this block"));
        }
    }
    engine.commit();
    engine.journal = None;
    engine.outcomes.finish();
    let text = String::from_utf8_lossy(&lines.borrow()).into_owned();
    Ok((text.lines().map(str::to_owned).collect(), trouble))
}

impl Engine {
    /// Leaves only the backends that have something to do with a question; why others could not be asked. `everywhere`: nobody
    /// says which ones are meant.
    fn select(&mut self, question: &Question, everywhere: bool) -> Result<Option<Error>, Error> {
        if let Some(late) = self.backends.iter().find(|state| !state.has_answered()) {
            return Err(Error::Unfinished(format!(
                "{} does not say what is there; does it hang?",
                late.caps.name
            )));
        }
        let is_used = |state: &BackendState| state.actual.scopes().next().is_some();
        // Nobody says on which backends the journal is to be applied: on those that have something, or else on the first one. A
        // backend that has nothing is not one that lacks it.
        let only_used = everywhere && !question.changes();
        let mut answering = self.backends.iter().filter(|state| state.trouble().is_none());
        let first = answering.clone().next().map(|state| state.caps.name);
        let first = first.filter(|_| self.desired.len() > 0 && !answering.any(is_used));
        // What this machine lacks, holds nothing.
        let lacks = |error: &Error| everywhere && error.is_unsupported();
        let errors = self.backends.iter().filter_map(|state| Some((state.caps.name, state.trouble()?)));
        let errors = errors.filter(|(_, error)| !lacks(error)).map(|(name, error)| (name, error.clone()));
        let trouble = summary(errors.collect());
        // What commands did their backend alone knows.
        if self.backends.iter().any(|state| state.caps.journaled && state.trouble().is_some()) {
            self.journal.iter().for_each(Journal::keep_long);
        }
        self.backends.retain(|state| match state.trouble() {
            // Of what nothing is known, that is said where somebody asks how it is.
            Some(error) => *question == Question::Status && !lacks(error),
            None => !only_used || is_used(state) || first == Some(state.caps.name),
        });
        Ok(trouble)
    }
}

/// Several errors as one, and that a right is missing once.
fn summary(mut errors: Vec<(&str, Error)>) -> Option<Error> {
    if errors.len() < 2 {
        return errors.pop().map(|(_, error)| error);
    }
    let (forbidden, others): (Vec<_>, Vec<_>) =
        errors.into_iter().partition(|(_, error)| error.exit() == Exit::NoPermission);
    let mut messages: Vec<String> = forbidden.iter().map(|(_, error)| error.to_string()).take(1).collect();
    if let Some(rest) = forbidden.get(1..).filter(|rest| !rest.is_empty()) {
        let names: Vec<&str> = rest.iter().map(|(name, _)| *name).collect();
        messages.push(format!("without it {} could not be asked, either", names.join(", ")));
    }
    messages.extend(others.iter().map(|(name, error)| format!("{name}: {error}")));
    let text = messages.join("; ");
    Some(if forbidden.is_empty() { Error::Unfinished(text) } else { Error::Forbidden(text) })
}

/// The backends that may have something here.
fn available(flags: &Flags, chosen: &[Which]) -> Result<Vec<Which>, Error> {
    if !chosen.is_empty() {
        return Ok(chosen.to_vec());
    }
    let mut found = Vec::new();
    for which in Which::REAL {
        match backends::open(which, flags) {
            Ok(_) => found.push(which),
            Err(error) if error.is_unsupported() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}
