//! One question, where no engine runs: the same engine is made, answers it, and is gone. It holds the lock on the journal, so
//! that two of them do not meet; a question that changes nothing needs none. Only what was asked is done: what the journal wants
//! besides is put back by the next psentry-block that runs.

use std::cell::RefCell;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::start::Parts;
use super::{Engine, Reply};
use crate::backends;
use crate::cli::{Flags, Which};
use crate::error::Error;
use crate::outcomes::report;
use crate::protocol::Question;
use crate::sink::Sink;

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Answers a question; the lines of the answer.
///
/// # Errors
/// When nothing can be asked, or another psentry-block keeps the journal.
pub(crate) fn answer_once(
    flags: &Flags,
    host: Option<&str>,
    question: &Question,
) -> Result<Vec<String>, Error> {
    let mut chosen = flags.chosen();
    let blocks = matches!(question, Question::Verdict(verdict) if verdict.body.action == psentry_records::Action::Block);
    match (blocks, chosen.is_empty()) {
        (true, true) => chosen.push(Which::Nft),
        (true, false) => backends::fit(&chosen, flags)?,
        // All that this machine has.
        (false, _) => chosen = available(flags, &chosen)?,
    }
    let (_never, asked) = UnixStream::pair().map_err(Error::system("open a pair of sockets"))?;
    let read_only = !question.changes();
    let parts = Parts {
        flags,
        host: host.map(str::to_owned),
        chosen,
        sink: Sink::Nowhere,
        asked: asked.as_fd(),
        once: true,
        read_only,
    };
    let mut engine = Engine::new(parts)?;
    engine.await_first_lists()?;
    if read_only && flags.backend.is_empty() {
        engine.drop_unused();
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
    if blocks {
        for state in engine.backends.iter().filter(|state| !state.caps.expires) {
            let name = state.caps.name;
            report(&format!("{name}: no psentry-block runs, and the next one that starts ends this block"));
        }
    }
    engine.commit();
    engine.journal = None;
    engine.outcomes.finish();
    let text = String::from_utf8_lossy(&lines.borrow()).into_owned();
    Ok(text.lines().map(str::to_owned).collect())
}

impl Engine {
    /// Nobody says on which backends the journal is to be applied: on those that have something. A backend that has nothing is not
    /// one that lacks it.
    fn drop_unused(&mut self) {
        let is_used = |state: &super::BackendState| state.actual.scopes().next().is_some();
        if self.backends.iter().any(is_used) || self.desired.len() == 0 {
            self.backends.retain(is_used);
        } else {
            self.backends.truncate(1);
        }
    }
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
