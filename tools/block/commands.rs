//! `list`, `unblock`, `flush` and `--check`: for people, beside a running psentry-block or without one. They read
//! what stands from where it stands, and make nothing.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::Instant;

use psentry_records::{Action, Common, Outcome, OutcomeBody, OutcomeResult, Prefix, Record, Timestamp};
use psentry_stage::{Exit, Failure};

use crate::backend::{Backend, Block, Change, Effect, Entry, Wish};
use crate::cli::{Flags, Which};
use crate::error::Error;
use crate::people::{commanded, remark, show, take_back};
pub(crate) use crate::readers::readers;
use crate::recall::Recall;
use crate::report::body;
use crate::start::guard;
use crate::{backends, listing};

/// Shows what is blocked.
pub(crate) fn list(flags: &Flags, host: Option<&str>) -> Result<(), Error> {
    let (readers, mut trouble) = readers(flags);
    let recall = Recall::of(flags);
    let now = Timestamp::now();
    let mut blocks: Vec<(&str, Entry, Block)> = Vec::new();
    let mut missing = 0;
    for (which, reader) in readers {
        let Some((_, entries)) = reader else { continue };
        let mut remembered = recall.blocks(which).unwrap_or_else(|error| {
            trouble = worst(trouble.take(), error);
            HashMap::new()
        });
        for mut entry in entries {
            let block = remembered.remove(&entry.scope);
            // Not every backend has room for the rule, and none for the rest.
            let block = block.unwrap_or_default();
            entry.rule = entry.rule.or(block.rule.clone());
            blocks.push((which.name(), entry, block));
        }
        missing += remembered.len();
    }
    if let Some(directory) = recall.directory().filter(|_| missing > 0) {
        say(&format!("{missing} more are remembered in {} and do not stand", directory.display()));
    }
    blocks.sort_by(|a, b| (a.1.scope, a.0).cmp(&(b.1.scope, b.0)));
    let text = if io::stdout().is_terminal() && !blocks.is_empty() {
        listing::table(&blocks, now, listing::columns()).into_bytes()
    } else {
        let outcome = |(backend, entry, block): &(&str, Entry, Block)| OutcomeBody {
            until: entry.until,
            rule: entry.rule.clone(),
            reason: block.reason.clone(),
            since: block.since.or(entry.since),
            ..body(Action::Block, entry.scope, Some(backend), OutcomeResult::Already)
        };
        lines(blocks.iter().map(outcome), host)
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

/// Ends all blocks, forgets what is remembered, and takes away whatever psentry-block made. What a command of the
/// administrator's made is left to a running psentry-block; `soon`: it is not waited for, and its answer only so long.
pub(crate) fn flush(flags: &Flags, soon: Option<Instant>, host: Option<&str>) -> Result<(), Error> {
    let (readers, mut trouble) = readers(flags);
    let recall = Recall::of(flags);
    let mut outcomes = Vec::new();
    for (which, mut reader) in readers {
        let remembered = recall.blocks(which).and_then(|blocks| {
            recall.let_in(which, &blocks.keys().copied().collect::<Vec<_>>())?;
            Ok(blocks)
        });
        let remembered = remembered.unwrap_or_else(|error| {
            trouble = worst(trouble.take(), error);
            HashMap::new()
        });
        let mut by_another = Vec::new();
        let stands = |(backend, entries): &mut (Box<dyn Backend>, Vec<Entry>)| {
            !entries.is_empty() || backend.unsure().is_ok_and(|unsure| !unsure.is_empty())
        };
        if commanded::is_left(flags, which) && reader.as_mut().is_some_and(stands) {
            if let Some(until) = soon {
                let left = until.saturating_duration_since(Instant::now());
                if commanded::end_all_soon(flags, left) {
                    let name = which.name();
                    say(&format!("{name}: the running psentry-block lets in whom its command shut out"));
                    continue;
                }
            } else {
                let (ended, unfinished) = commanded::end_all(flags).unwrap_or_default();
                outcomes.extend(ended.iter().cloned());
                by_another = ended;
                if let Some(error) = unfinished {
                    trouble = worst(trouble, error);
                    continue;
                }
            }
        }
        let removed = reader.map_or_else(|| Ok(Vec::new()), |(mut backend, _)| backend.remove());
        let ended = match removed {
            Ok(entries) => {
                let mut ended: BTreeMap<Prefix, _> =
                    remembered.into_iter().map(|(scope, block)| (scope, block.until)).collect();
                ended.extend(entries.into_iter().map(|entry| (entry.scope, entry.until)));
                ended.retain(|scope, _| by_another.iter().all(|outcome| outcome.scope != *scope));
                ended
            }
            Err(error) => {
                trouble = worst(trouble, error);
                continue;
            }
        };
        outcomes.extend(ended.into_iter().map(|(scope, until)| OutcomeBody {
            until,
            ..body(Action::Block, scope, Some(which.name()), OutcomeResult::Released)
        }));
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

/// Outcomes as lines.
pub(crate) fn lines(outcomes: impl IntoIterator<Item = OutcomeBody>, host: Option<&str>) -> Vec<u8> {
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
