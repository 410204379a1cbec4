//! `list`, `unblock`, `flush` and `--check`: for people, beside a running psentry-block or without one. They read
//! what stands from where it stands, and make nothing.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use psentry_records::{Action, Common, Outcome, OutcomeBody, OutcomeResult, Prefix, Record, Timestamp};

use crate::backend::{Backend, Block, Change, Effect, Entry, Wish};
use crate::cli::{Flags, Which};
use crate::error::Error;
use crate::report::body;
use crate::{backends, listing};

/// Shows what is blocked.
pub(crate) fn list(flags: &Flags, host: Option<&str>) -> Result<(), Error> {
    let (readers, trouble) = readers(flags);
    let now = Timestamp::now();
    let mut blocks: Vec<(&str, Entry)> = Vec::new();
    for (backend, entries) in &readers {
        blocks.extend(entries.iter().map(|entry| (backend.name(), entry.clone())));
    }
    blocks.sort_by(|a, b| (a.1.scope, a.0).cmp(&(b.1.scope, b.0)));
    let text = if io::stdout().is_terminal() && !blocks.is_empty() {
        listing::table(&blocks, now).into_bytes()
    } else {
        let outcome = |(backend, entry): &(&str, Entry)| OutcomeBody {
            until: entry.until,
            ..body(Action::Block, entry.scope, Some(backend), OutcomeResult::Already)
        };
        lines(blocks.iter().map(outcome), host)
    };
    print(&text)?;
    trouble.map_or(Ok(()), Err)
}

/// Ends a block on every backend that holds it.
pub(crate) fn unblock(flags: &Flags, scope: Prefix, host: Option<&str>) -> Result<(), Error> {
    let (readers, mut trouble) = readers(flags);
    let chosen = !flags.backend.is_empty();
    let mut outcomes = Vec::new();
    let mut near: Vec<(&str, Prefix)> = Vec::new();
    for (mut backend, entries) in readers {
        let name = backend.name();
        let doubts = backend.unsure().unwrap_or_default();
        let holds = entries.iter().chain(&doubts).any(|entry| entry.scope == scope);
        near.extend(entries.iter().map(|entry| entry.scope).filter(|s| s.overlaps(scope)).map(|s| (name, s)));
        if !holds && !chosen {
            continue;
        }
        let change = Change { scope, wish: Wish::Release(Block::default()) };
        let mut outcome = body(Action::Unblock, scope, Some(name), OutcomeResult::Released);
        match backend.apply(&[change], Timestamp::now()).pop() {
            Some(Ok(Effect::Done)) => {}
            Some(Ok(Effect::WasNotThere)) | None => {
                say(&format!("{scope} was not blocked on {name}"));
                outcome.result = OutcomeResult::Already;
            }
            Some(Err(error)) => {
                outcome.result = OutcomeResult::Failed;
                outcome.error = Some(error.to_string());
                trouble = worst(trouble, error);
            }
        }
        outcomes.push(outcome);
    }
    // What could not be read may well block it.
    if outcomes.is_empty() && trouble.is_none() {
        say(&format!("{scope} was not blocked"));
        outcomes.push(body(Action::Unblock, scope, None, OutcomeResult::Already));
    }
    for (name, other) in near.into_iter().filter(|(_, other)| *other != scope) {
        say(&format!("{name} still blocks {other}, which {scope} overlaps"));
    }
    print(&lines(outcomes, host))?;
    trouble.map_or(Ok(()), Err)
}

/// Ends all blocks, and takes away whatever psentry-block made.
pub(crate) fn flush(flags: &Flags, host: Option<&str>) -> Result<(), Error> {
    let (readers, mut trouble) = readers(flags);
    let mut outcomes = Vec::new();
    for (mut backend, _) in readers {
        let name = backend.name();
        match backend.remove() {
            Ok(entries) => outcomes.extend(entries.into_iter().map(|entry| OutcomeBody {
                until: entry.until,
                ..body(Action::Block, entry.scope, Some(name), OutcomeResult::Released)
            })),
            Err(error) => trouble = worst(trouble, error),
        }
    }
    print(&lines(outcomes, host))?;
    trouble.map_or(Ok(()), Err)
}

/// Whether a run with these flags could work, as far as can be told without touching anything.
pub(crate) fn check(flags: &Flags) -> Result<(), Error> {
    let mut chosen = flags.chosen();
    if chosen.is_empty() {
        chosen.push(Which::Nft);
    }
    let wrong = |error: Error| Error::Config(error.to_string());
    backends::fit(&chosen, flags).map_err(wrong)?;
    for which in chosen {
        backends::check(which, flags).map_err(wrong)?;
    }
    Ok(())
}

/// A backend and what it holds.
type Reader = (Box<dyn Backend>, Vec<Entry>);

/// The chosen backends and what each holds; if none is chosen, all that this machine has. The second part: what
/// went wrong with one that could be used.
fn readers(flags: &Flags) -> (Vec<Reader>, Option<Error>) {
    let chosen = flags.chosen();
    let mut readers = Vec::new();
    let mut trouble: Option<Error> = None;
    for which in if chosen.is_empty() { Which::REAL.to_vec() } else { chosen.clone() } {
        let read = || -> Result<Reader, Error> {
            let mut backend = backends::open(which, flags)?;
            let entries = backend.list()?;
            Ok((backend, entries))
        };
        match read() {
            Ok(reader) => readers.push(reader),
            // What is not there, or what the machine does not support, holds nothing.
            Err(error) if chosen.is_empty() && error.is_unsupported() => {}
            // Nothing was read, and it may hold anything.
            Err(error) => trouble = worst(trouble, error),
        }
    }
    (readers, trouble)
}

/// Outcomes as lines.
fn lines(outcomes: impl IntoIterator<Item = OutcomeBody>, host: Option<&str>) -> Vec<u8> {
    let mut text = Vec::new();
    let mut line = Vec::new();
    for body in outcomes {
        let mut common = Common::at(Timestamp::now());
        common.host = host.map(str::to_owned);
        if Record::Outcome(Outcome { common, body }).encode(&mut line).is_ok() {
            text.extend_from_slice(&line);
        }
    }
    text
}

/// Writes to standard output; a reader that has seen enough is no error.
fn print(text: &[u8]) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Output(Arc::new(error))),
        _ => Ok(()),
    }
}

/// The error that the program ends with: the first one. Others are told at once.
fn worst(trouble: Option<Error>, error: Error) -> Option<Error> {
    if trouble.is_some() {
        say(&error.to_string());
    }
    trouble.or(Some(error))
}

fn say(sentence: &str) {
    let _ = writeln!(io::stderr(), "psentry-block: {sentence}");
}
