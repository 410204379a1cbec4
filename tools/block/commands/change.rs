//! `block`, `unblock` and `flush`: what the engine has to change, and whether it did.

use std::collections::BTreeMap;
use std::time::Duration;

use psentry_records::{
    Action, Common, Outcome, OutcomeResult as Is, Prefix, Timestamp, Verdict, VerdictBody,
};
use psentry_stage::{clean, printable};

use super::client::{Answer, Client};
use super::print::{self, first, print};
use crate::error::Error;
use crate::outcomes::report;
use psentry_control::{BY_HAND, Question};

/// Blocks a scope. It is no success before every backend has confirmed it.
pub(super) fn block(
    client: Client<'_>,
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
    let answer = client.ask(&verdict(body))?;
    if !answer.running && answer.outcomes.iter().any(|outcome| outcome.body.result == Is::Applied) {
        report(&format!(
            "{}: no psentry-block answers here, so the files of its --allow are not checked",
            client.path().display()
        ));
    }
    show(client, &answer)?;
    confirmed(&answer, scope, &[Is::Applied, Is::Already])
}

/// Unblocks a scope. That another block still blocks all of it, or a part of it, is an error.
pub(super) fn unblock(client: Client<'_>, scope: Prefix) -> Result<(), Error> {
    let mut answer = client.ask(&verdict(VerdictBody::new(Action::Unblock, scope)))?;
    let was_blocked = |outcome: &Outcome| outcome.body.result != Is::Already;
    if answer.outcomes.iter().any(was_blocked) || answer.trouble.is_some() {
        // Of all backends that this machine has, only those count that blocked it.
        answer.outcomes.retain(|outcome| answer.running || was_blocked(outcome));
    } else if client.flags.json && answer.complete().is_ok() {
        // Otherwise the outcomes say so in words.
        report(&format!("{scope} was not blocked"));
    }
    show(client, &answer)?;
    let still = if answer.trouble.is_none() { others(client, scope) } else { Vec::new() };
    let mut errors: Vec<Error> =
        confirmed(&answer, scope, &[Is::Released, Is::Already]).err().into_iter().collect();
    errors.extend(still.into_iter().map(Error::No));
    first(errors)
}

/// The other blocks that are there and overlap `scope`, each with a sentence that says how to end it.
fn others(client: Client<'_>, scope: Prefix) -> Vec<String> {
    match client.ask(&Question::Why { addr: scope }) {
        Ok(why) => still_blocking(&why.outcomes, scope),
        Err(error) => {
            report(&format!("whether other blocks overlap {scope} is not known: {error}"));
            Vec::new()
        }
    }
}

fn still_blocking(outcomes: &[Outcome], scope: Prefix) -> Vec<String> {
    let mut backends: BTreeMap<Prefix, Vec<String>> = BTreeMap::new();
    for Outcome { body, .. } in outcomes {
        if body.scope != scope && body.result == Is::Already {
            backends.entry(body.scope).or_default().extend(body.backend.as_deref().map(printable));
        }
    }
    let sentence = |(other, backends): (Prefix, Vec<String>)| {
        let is = if other.len() < scope.len() {
            format!("{scope} is still blocked by the block of {other}")
        } else {
            format!("{other}, a part of {scope}, is still blocked")
        };
        format!("{is} on {}; to release it: psentry-block unblock {other}", backends.join(", "))
    };
    backends.into_iter().map(sentence).collect()
}

/// Releases everybody, and deletes every trace.
pub(super) fn flush(client: Client<'_>) -> Result<(), Error> {
    let answer = client.ask(&Question::Flush)?;
    show(client, &answer)?;
    // What ended a moment before it was released is gone as well, and a verdict may have blocked somebody anew meanwhile.
    succeeded(&answer, &[Is::Released, Is::Already, Is::Expired, Is::Applied])
}

fn verdict(body: VerdictBody) -> Question {
    Question::Verdict(Box::new(Verdict { common: Common::at(Timestamp::now()), body }))
}

/// Prints what came of it.
fn show(client: Client<'_>, answer: &Answer) -> Result<(), Error> {
    let people = || print::text(&answer.outcomes, &client.clock());
    print(client.flags, people, || print::lines(&answer.outcomes, client.host))?;
    answer.notes.iter().for_each(|note| report(note));
    Ok(())
}

/// Whether something came of a verdict, and nothing else than these.
fn confirmed(answer: &Answer, scope: Prefix, good: &[Is]) -> Result<(), Error> {
    succeeded(answer, good)?;
    if answer.outcomes.is_empty() {
        return Err(Error::No(format!("no backend confirmed the request for {scope}")));
    }
    Ok(())
}

/// Whether nothing else came of it than these.
fn succeeded(answer: &Answer, good: &[Is]) -> Result<(), Error> {
    let bad = answer.outcomes.iter().map(|outcome| &outcome.body).filter(|body| !good.contains(&body.result));
    let error = |body| {
        let why = print::trouble(body);
        if body.result == Is::Failed { Error::Unfinished(why) } else { Error::No(why) }
    };
    first(bad.map(error).chain(answer.complete().err()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::print::tests::outcome;

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
            (&[], "No: no backend confirmed the request for 192.0.2.7/32"),
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
        let late = Answer { errors: vec!["nft is late".to_owned()], ..answer(&[(route, Is::Applied)]) };
        assert_eq!(succeeded(&late, &[Is::Applied]).unwrap_err().to_string(), "nft is late");
        assert!(succeeded(&answer(&[]), &[Is::Released]).is_ok(), "nobody was blocked");
    }

    #[test]
    fn only_other_blocks_that_are_there_are_named() {
        let there = |n, backend| outcome(Action::Block, n, Some(backend), Is::Already);
        let outcomes =
            [there(7, "nft"), there(7, "route"), outcome(Action::Block, 8, Some("nft"), Is::Failed)];
        let scope: Prefix = "192.0.2.0/24".parse().unwrap();
        let part = "192.0.2.7/32, a part of 192.0.2.0/24, is still blocked on nft, route; to release it: psentry-block \
                    unblock 192.0.2.7/32";
        assert_eq!(still_blocking(&outcomes, scope), [part]);
        assert!(still_blocking(&outcomes, "192.0.2.7".parse().unwrap()).is_empty());
        let mut wider = there(7, "nft");
        wider.body.scope = scope;
        let all = "192.0.2.7/32 is still blocked by the block of 192.0.2.0/24 on nft; to release it: psentry-block unblock \
                   192.0.2.0/24";
        assert_eq!(still_blocking(&[wider], "192.0.2.7".parse().unwrap()), [all]);
    }
}
