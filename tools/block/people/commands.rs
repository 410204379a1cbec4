//! `list`, `unblock` and `--check`: for people, beside a running psentry-block or without one. They read
//! what stands from where it stands, and make nothing.

use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use psentry_records::{Action, OutcomeBody, OutcomeResult, Prefix, Timestamp};
use psentry_stage::{Exit, Failure};

use super::listing;
use crate::backend::{Block, Change, Effect, Wish};
use crate::backends;
use crate::cli::{Flags, Which};
use crate::error::Error;
use crate::memory::recall::Recall;
pub(crate) use crate::people::readers::readers;
use crate::people::{commanded, remark, show, take_back};
use crate::report::{body, lines, listed};
use crate::run::start::guard;

/// Shows what is blocked.
pub(crate) fn list(flags: &Flags, host: Option<&str>) -> Result<(), Error> {
    let (readers, mut trouble) = readers(flags);
    let recall = Recall::of(flags);
    let now = Timestamp::now();
    let mut blocks: Vec<(&str, Prefix, Block)> = Vec::new();
    let mut missing = 0;
    for (which, reader) in readers {
        let Some((_, entries)) = reader else { continue };
        let mut remembered = recall.blocks(which).unwrap_or_else(|error| {
            trouble = worst(trouble.take(), error);
            HashMap::new()
        });
        for entry in entries {
            let known = remembered.remove(&entry.scope).unwrap_or_default();
            blocks.push((which.name(), entry.scope, entry.with(known)));
        }
        missing += remembered.len();
    }
    if let Some(directory) = recall.directory().filter(|_| missing > 0) {
        say(&format!("{missing} more are remembered in {} and do not stand", directory.display()));
    }
    blocks.sort_by_key(|(backend, scope, _)| (*scope, *backend));
    let text = if io::stdout().is_terminal() && !blocks.is_empty() {
        listing::table(&blocks, now, listing::columns()).into_bytes()
    } else {
        lines(blocks.iter().map(|(backend, scope, block)| listed(*scope, backend, block, None)), host)
    };
    print(&text)?;
    trouble.map_or(Ok(()), Err)
}

/// Ends a block on every backend that holds it, or remembers it.
pub(crate) fn unblock(flags: &Flags, scope: Prefix, host: Option<&str>) -> Result<(), Error> {
    let (readers, mut trouble) = readers(flags);
    let (recall, chosen) = (Recall::of(flags), !flags.backend.is_empty());
    let mut outcomes = Vec::new();
    let mut near: Vec<(&str, Prefix)> = Vec::new();
    for (which, reader) in readers {
        let name = which.name();
        let (mut backend, entries) = reader.unzip();
        let doubts = backend.as_mut().and_then(|backend| backend.unsure().ok());
        let stands: Vec<Prefix> = entries.into_iter().flatten().map(|entry| entry.scope).collect();
        let doubtful = doubts.into_iter().flatten().any(|entry| entry.scope == scope);
        let holds = doubtful || stands.contains(&scope);
        near.extend(stands.into_iter().filter(|other| other.overlaps(scope)).map(|other| (name, other)));
        let remembered = recall.blocks(which).map(|blocks| blocks.contains_key(&scope));
        // First what is wanted: should it be blocked anew meanwhile, that comes later, and counts.
        let forgotten = remembered.and_then(|remembered| {
            if remembered || holds {
                recall.let_in(which, &[scope])?;
            }
            Ok(remembered)
        });
        let forgotten = forgotten.unwrap_or_else(|error| {
            trouble = worst(trouble.take(), error);
            false
        });
        if holds
            && commanded::is_left(flags, which)
            && let Some(outcome) = commanded::end(flags, scope)
        {
            trouble = commanded::trouble(std::slice::from_ref(&outcome))
                .map_or(trouble.take(), |error| worst(trouble.take(), error));
            outcomes.push(outcome);
            continue;
        }
        let change = Change { scope, wish: Wish::Release(Block::default()) };
        let tried = backend.filter(|_| holds || chosen).map(|mut backend| {
            backend.apply(&[change], Timestamp::now()).pop().unwrap_or(Ok(Effect::WasNotThere))
        });
        let mut outcome = body(Action::Unblock, scope, Some(name), OutcomeResult::Released);
        match tried {
            Some(Ok(Effect::Done)) => {}
            Some(Ok(Effect::WasNotThere)) | None if forgotten => {
                say(&format!("{scope} did not stand on {name}, and is not remembered any more"));
            }
            None => continue,
            Some(Ok(Effect::WasNotThere)) => {
                remark(&format!("{scope} was not blocked on {name}"));
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
    for taken in take_back(flags, scope) {
        if let (OutcomeResult::Failed, Some(why)) = (taken.result, &taken.error) {
            trouble = worst(trouble, Error::Unfinished(why.clone()));
        }
        let already = |other: &OutcomeBody| other.result == OutcomeResult::Already;
        outcomes.retain(|other| other.backend != taken.backend || !already(other));
        outcomes.push(taken);
    }
    // What could not be read may well block it.
    if outcomes.is_empty() && trouble.is_none() {
        remark(&format!("{scope} was not blocked"));
        outcomes.push(body(Action::Unblock, scope, None, OutcomeResult::Already));
    }
    for (name, other) in near.into_iter().filter(|(_, other)| *other != scope) {
        say(&format!("{name} still blocks {other}, which {scope} overlaps"));
    }
    show(outcomes, host)?;
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
    guard(flags).map_err(wrong)?;
    if let Some(state) = flags.state.as_ref().filter(|state| state.exists() && !state.is_dir()) {
        return Err(Error::Config(format!("--state {}: this is no directory", state.display())));
    }
    Ok(())
}

/// Writes to standard output; a reader that has seen enough is no error.
pub(crate) fn print(text: &[u8]) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Output(Arc::new(error))),
        _ => Ok(()),
    }
}

/// The error that the program ends with: the first one. Others are told at once, but not twice that a right is missing.
pub(crate) fn worst(trouble: Option<Error>, error: Error) -> Option<Error> {
    let forbidden = |error: &Error| error.exit() == Exit::NoPermission;
    if trouble.as_ref().is_some_and(|trouble| !forbidden(trouble) || !forbidden(&error)) {
        say(&error.to_string());
    }
    trouble.or(Some(error))
}

pub(crate) fn say(sentence: &str) {
    let _ = writeln!(io::stderr(), "psentry-block: {sentence}");
}
