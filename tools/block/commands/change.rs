//! `block`, `unblock` and `flush`: what the engine has to change, and whether it did.

use std::io::{self, IsTerminal};
use std::time::Duration;

use psentry_records::{
    Action, Common, Outcome, OutcomeResult as Is, Prefix, Timestamp, Verdict, VerdictBody,
};
use psentry_stage::{clean, printable};

use super::{Answer, ask, render, say};
use crate::cli::Flags;
use crate::error::Error;
use crate::protocol::{BY_HAND, Question};

/// Blocks a scope. It is no success before every backend has confirmed it.
pub(super) fn block(
    flags: &Flags,
    host: Option<&str>,
    scope: Prefix,
    span: Option<Duration>,
    reason: Option<&str>,
) -> Result<(), Error> {
    let body = VerdictBody {
        // A duration on the command line is at least a second.
        duration: span.map(|span| span.as_secs().max(1)),
        rule: Some(BY_HAND.to_owned()),
        reason: reason.and_then(clean),
        ..VerdictBody::new(Action::Block, scope)
    };
    let answer = ask(flags, host, &verdict(body))?;
    if !answer.running && answer.outcomes.iter().any(|outcome| outcome.body.result == Is::Applied) {
        say(&format!(
            "{}: no psentry-block answers here, so none was asked whom its --allow leaves alone",
            flags.control_path().display()
        ));
    }
    render::show(&answer.outcomes, host)?;
    confirmed(&answer, scope, &[Is::Applied, Is::Already])
}

/// Unblocks a scope, and names what else blocks a part of it.
pub(super) fn unblock(flags: &Flags, host: Option<&str>, scope: Prefix) -> Result<(), Error> {
    let mut answer = ask(flags, host, &verdict(VerdictBody::new(Action::Unblock, scope)))?;
    let was_blocked = |outcome: &Outcome| outcome.body.result != Is::Already;
    if answer.outcomes.iter().any(was_blocked) || answer.trouble.is_some() {
        // Of all backends that this machine has, only those count that blocked it.
        answer.outcomes.retain(|outcome| answer.running || was_blocked(outcome));
    } else if !io::stdout().is_terminal() && answer.complete().is_ok() {
        // On a terminal the outcomes say so.
        say(&format!("{scope} was not blocked"));
    }
    render::show(&answer.outcomes, host)?;
    answer.notes.iter().for_each(|note| say(note));
    if answer.trouble.is_none() {
        name_others(flags, host, scope);
    }
    confirmed(&answer, scope, &[Is::Released, Is::Already])
}

/// Names the blocks that overlap `scope` and stay.
fn name_others(flags: &Flags, host: Option<&str>, scope: Prefix) {
    match ask(flags, host, &Question::Why(scope)) {
        Ok(why) => {
            for other in why.outcomes.iter().filter_map(|outcome| still_blocks(outcome, scope)) {
                say(&other);
            }
        }
        Err(error) => say(&format!("whether other blocks overlap {scope} is not known: {error}")),
    }
}

/// That a block of something else overlaps `scope`, and stays.
fn still_blocks(outcome: &Outcome, scope: Prefix) -> Option<String> {
    let body = &outcome.body;
    let backend = body.backend.as_ref().filter(|_| body.scope != scope && body.result == Is::Already)?;
    Some(format!("{} still blocks {}, which {scope} overlaps", printable(backend), body.scope))
}

/// Releases everybody, and deletes every trace.
pub(super) fn flush(flags: &Flags, host: Option<&str>) -> Result<(), Error> {
    let answer = ask(flags, host, &Question::Flush)?;
    render::show(&answer.outcomes, host)?;
    answer.notes.iter().for_each(|note| say(note));
    // What ended a moment before it was released is gone as well, and a verdict may have blocked somebody anew meanwhile.
    succeeded(&answer, &[Is::Released, Is::Already, Is::Expired, Is::Applied])
}

fn verdict(body: VerdictBody) -> Question {
    Question::Verdict(Box::new(Verdict { common: Common::at(Timestamp::now()), body }))
}

/// Whether something came of a verdict, and nothing else than these.
fn confirmed(answer: &Answer, scope: Prefix, good: &[Is]) -> Result<(), Error> {
    succeeded(answer, good)?;
    if answer.outcomes.is_empty() {
        return Err(Error::No(format!("nobody confirmed what was asked of {scope}")));
    }
    Ok(())
}

/// Whether nothing else came of it than these. Of several troubles the first is the error, and the others are reported.
fn succeeded(answer: &Answer, good: &[Is]) -> Result<(), Error> {
    let mut bad =
        answer.outcomes.iter().map(|outcome| &outcome.body).filter(|body| !good.contains(&body.result));
    let Some(first) = bad.next() else { return answer.complete() };
    let incomplete = answer.complete().err().map(|error| error.to_string());
    for more in bad.map(render::trouble).chain(incomplete) {
        say(&more);
    }
    let why = render::trouble(first);
    Err(if first.result == Is::Failed { Error::Unfinished(why) } else { Error::No(why) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::render::tests::outcome;

    #[test]
    fn it_is_done_when_every_backend_says_so() {
        let answer = |results: &[(Option<&str>, Is)]| {
            let outcomes = results.iter().map(|(backend, is)| outcome(Action::Block, 7, *backend, *is));
            Answer { outcomes: outcomes.collect(), ..Answer::default() }
        };
        let (nft, route) = (Some("nft"), Some("route"));
        for (results, exit) in [
            (&[(nft, Is::Applied), (route, Is::Already)][..], "done"),
            (&[(nft, Is::Applied), (route, Is::Failed)], "Unfinished: route: it is not known why"),
            (&[(None, Is::Refused)], "No: it is not known why"),
            (&[(nft, Is::Released)], "No: nft: it is not known why"),
            (&[], "No: nobody confirmed what was asked of 192.0.2.7/32"),
        ] {
            let is = match confirmed(
                &answer(results),
                "192.0.2.7".parse().unwrap(),
                &[Is::Applied, Is::Already],
            ) {
                Ok(()) => "done".to_owned(),
                Err(Error::No(why)) => format!("No: {why}"),
                Err(Error::Unfinished(why)) => format!("Unfinished: {why}"),
                Err(error) => panic!("{error}"),
            };
            assert_eq!(is, exit);
        }
        let late = Answer { error: Some("nft is late".to_owned()), ..answer(&[(route, Is::Applied)]) };
        assert_eq!(succeeded(&late, &[Is::Applied]).unwrap_err().to_string(), "nft is late");
        assert!(succeeded(&answer(&[]), &[Is::Released]).is_ok(), "nobody was blocked");
    }

    #[test]
    fn only_other_blocks_that_are_there_are_named() {
        let scope: Prefix = "192.0.2.0/24".parse().unwrap();
        let there = outcome(Action::Block, 7, Some("nft"), Is::Already);
        assert_eq!(
            still_blocks(&there, scope).unwrap(),
            "nft still blocks 192.0.2.7/32, which 192.0.2.0/24 overlaps"
        );
        assert_eq!(still_blocks(&there, "192.0.2.7".parse().unwrap()), None);
        assert_eq!(still_blocks(&outcome(Action::Block, 7, Some("nft"), Is::Failed), scope), None);
    }
}
