//! `block`: a verdict of a person. A running psentry-block carries it out and confirms it; where none runs, it is done
//! here, past the same guard.

use std::time::Duration;

use psentry_records::{
    Action, Common, OutcomeBody, OutcomeResult, Prefix, Record, Timestamp, Verdict, VerdictBody,
};

use super::show;
use crate::backend::{Block, Change, Wish, told};
use crate::cli::{Flags, Which};
use crate::control::client::{DOING, Silence, What, ask};
use crate::error::Error;
use crate::memory::recall::Recall;
use crate::panic::Panic;
use crate::people::commands::{say, worst};
use crate::report::body;
use crate::run::start;
use crate::{backends, control};

/// The rule that such a verdict names.
const RULE: &str = "by-hand";

/// Blocks a scope, and says what came of it.
pub(crate) fn block(
    flags: &Flags,
    scope: Prefix,
    span: Option<Duration>,
    reason: Option<&str>,
    host: Option<&str>,
) -> Result<(), Error> {
    let verdict = Verdict {
        common: Common::at(Timestamp::now()),
        body: VerdictBody {
            // A duration on the command line is at least a second.
            duration: span.map(|span| span.as_secs().max(1)),
            rule: Some(RULE.to_owned()),
            reason: reason.and_then(told),
            ..VerdictBody::new(Action::Block, scope)
        },
    };
    let path = control::path(flags);
    let (outcomes, trouble) = match ask(&path, &What::Do(&verdict), DOING) {
        Ok(lines) => {
            if !flags.backend.is_empty() {
                say("a psentry-block runs, and blocks on its own backends; --backend says nothing");
            }
            (lines.iter().filter_map(|line| outcome(line)).collect(), None)
        }
        Err(Silence::Absent | Silence::Dead) => {
            let done = directly(flags, &verdict)?;
            if done.0.iter().any(|outcome| outcome.result == OutcomeResult::Applied) {
                say(&format!(
                    "{}: no psentry-block answers here, so none was asked whom its --allow leaves alone",
                    path.display()
                ));
            }
            done
        }
        Err(Silence::Forbidden) => {
            return Err(Error::Forbidden(format!(
                "{}: you may not ask here; run this as root",
                path.display()
            )));
        }
        Err(Silence::Hangs) => {
            return Err(Error::Unfinished(format!(
                "{}: psentry-block does not answer; it may block {scope} once it does",
                path.display()
            )));
        }
        Err(Silence::Refused(why)) => return Err(Error::Unfinished(why)),
    };
    tell(outcomes, trouble, scope, host)
}

/// Says what came of it, and gives the error that the program ends with.
fn tell(
    outcomes: Vec<OutcomeBody>,
    trouble: Option<Error>,
    scope: Prefix,
    host: Option<&str>,
) -> Result<(), Error> {
    let failed = outcomes.iter().any(|outcome| outcome.result == OutcomeResult::Failed);
    let whole =
        |outcome: &OutcomeBody| matches!(outcome.result, OutcomeResult::Applied | OutcomeResult::Already);
    let blocked = !outcomes.is_empty() && outcomes.iter().all(whole);
    let why = outcomes.iter().find(|outcome| !whole(outcome)).and_then(|outcome| outcome.error.clone());
    show(outcomes, host)?;
    match trouble {
        Some(trouble) => Err(trouble),
        None if blocked => Ok(()),
        None => {
            let why = why.unwrap_or_else(|| format!("nobody confirmed that {scope} is blocked"));
            Err(if failed { Error::Unfinished(why) } else { Error::No(why) })
        }
    }
}

fn outcome(line: &str) -> Option<OutcomeBody> {
    match Record::parse(line) {
        Ok(Record::Outcome(outcome)) => Some(outcome.body),
        _ => None,
    }
}

/// Blocks without a running psentry-block.
fn directly(flags: &Flags, verdict: &Verdict) -> Result<(Vec<OutcomeBody>, Option<Error>), Error> {
    let scope = verdict.body.scope;
    let refused = |why| {
        let outcome = body(Action::Block, scope, None, OutcomeResult::Refused);
        Ok((vec![OutcomeBody { error: Some(why), ..outcome }], None))
    };
    if let Some(order) = Panic::of(flags).holds() {
        return refused(order.sentence());
    }
    let guard = start::guard(flags)?;
    if let Some(why) = guard.refusal(scope)?.map_or_else(|| guard.not_yet(scope), |why| Ok(Some(why)))? {
        return refused(why);
    }
    let mut chosen = flags.chosen();
    if chosen.is_empty() {
        chosen.push(Which::Nft);
    }
    backends::fit(&chosen, flags)?;
    let block = Block {
        until: verdict.until(),
        rule: verdict.body.rule.clone(),
        since: Some(verdict.common.timestamp),
        reason: verdict.body.reason.clone(),
        ..Block::default()
    };
    let (mut outcomes, mut trouble) = (Vec::new(), None);
    for which in chosen {
        match on(which, flags, scope, &block) {
            Ok(outcome) => outcomes.push(outcome),
            Err(error) => {
                outcomes.push(OutcomeBody {
                    error: Some(error.to_string()),
                    ..body(Action::Block, scope, Some(which.name()), OutcomeResult::Failed)
                });
                trouble = worst(trouble, error);
            }
        }
    }
    Ok((outcomes, trouble))
}

/// Blocks on one backend. It is remembered before it is told.
fn on(which: Which, flags: &Flags, scope: Prefix, block: &Block) -> Result<OutcomeBody, Error> {
    let (panic, mut backend) = (Panic::of(flags), backends::open(which, flags)?);
    let mark = panic.mark();
    // Nothing is made ready: a psentry-block without a socket may run with other flags, and what it made is to stay.
    let found = backend.list()?;
    let stands = found.iter().find(|entry| entry.scope == scope).map(Block::from);
    let outcome = body(Action::Block, scope, Some(which.name()), OutcomeResult::Applied);
    if let Some(stands) = stands.as_ref().filter(|stands| stands.covers(block)) {
        return Ok(OutcomeBody { until: stands.until, result: OutcomeResult::Already, ..outcome });
    }
    // What a longer one shuts stays shut; see `Ledger::decide`.
    let both = stands.filter(|stands| !block.covers(stands)).map(|stands| stands.joined(block));
    let block = both.as_ref().unwrap_or(block);
    let change = Change { scope, wish: Wish::Block(block.clone()) };
    backend.apply(&[change], Timestamp::now()).pop().transpose()?;
    // Declared meanwhile: what slipped in goes, though it be over.
    let over = || panic.mark().is_after(mark).then(|| "there was a panic meanwhile".to_owned());
    if let Some(error) = panic.holds().map(|order| order.sentence()).or_else(over) {
        let change = Change { scope, wish: Wish::Release(block.clone()) };
        backend.apply(&[change], Timestamp::now()).pop().transpose()?;
        return Ok(OutcomeBody { error: Some(error), result: OutcomeResult::Refused, ..outcome });
    }
    let recall = Recall::of(flags);
    match recall.add(which, scope, block) {
        Ok(true) => {}
        Ok(false) => say(&format!("{}: nothing is remembered, as there is no --state", which.name())),
        Err(error) => say(&format!("{}: it stands, but is not remembered: {error}", which.name())),
    }
    if block.until.is_some() && !backend.ends_by_itself() {
        say(&format!(
            "{}: no psentry-block runs, and the next one that starts ends this block",
            which.name()
        ));
    }
    Ok(OutcomeBody { until: block.until, ..outcome })
}
