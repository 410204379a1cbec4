//! What came of a command: sentences on a terminal, outcomes as lines of JSON otherwise.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};

use psentry_records::{Action, OutcomeBody, OutcomeResult};

use crate::error::Error;
use crate::note::moment;
use crate::people::commands::{print, say};
use crate::report::{lines, of_now};

/// How many blocks of one backend are named one by one when all of them end.
const NAMED: usize = 20;

/// Shows outcomes to whoever gave the command.
pub(crate) fn show(outcomes: Vec<OutcomeBody>, host: Option<&str>) -> Result<(), Error> {
    if io::stdout().is_terminal() {
        return print(text(&outcomes).as_bytes());
    }
    print(&lines(outcomes.into_iter().map(of_now), host))
}

/// Says what stands in an outcome, too: on a terminal that is a sentence already.
pub(crate) fn remark(sentence: &str) {
    if !io::stdout().is_terminal() {
        say(sentence);
    }
}

/// A line for each, but not thousands of them.
fn text(outcomes: &[OutcomeBody]) -> String {
    let (mut text, mut more): (String, BTreeMap<&str, (usize, usize)>) = Default::default();
    for outcome in outcomes {
        let (named, left) = more.entry(outcome.backend.as_deref().unwrap_or_default()).or_default();
        let ended = outcome.result == OutcomeResult::Released;
        if ended && *named >= NAMED {
            *left += 1;
            continue;
        }
        *named += usize::from(ended);
        text.push_str(&sentence(outcome));
        text.push('\n');
    }
    for (backend, (_, left)) in more.into_iter().filter(|(_, (_, left))| *left > 0) {
        text.push_str(&format!("{left} more are let in on {backend}\n"));
    }
    text
}

fn sentence(outcome: &OutcomeBody) -> String {
    let scope = outcome.scope;
    let place = outcome.backend.as_ref().map_or_else(String::new, |backend| format!(" on {backend}"));
    let end = outcome.until.map_or_else(|| "it is unblocked".to_owned(), moment);
    match (outcome.action, outcome.result) {
        (_, OutcomeResult::Released) => format!("{scope} is let in{place}"),
        (Action::Unblock, OutcomeResult::Already) => format!("{scope} was not blocked{place}"),
        (Action::Unblock, OutcomeResult::Failed) => format!("{scope} could not be let in{place}"),
        (_, OutcomeResult::Applied) => format!("{scope} is blocked{place} until {end}"),
        (_, OutcomeResult::Already) => format!("{scope} was blocked{place} already, until {end}"),
        (_, result) => format!("{scope}{place}: {}", result.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::body;

    #[test]
    fn people_read_sentences_and_not_thousands_of_them() {
        let scope = |n: usize| format!("192.0.2.{n}").parse().unwrap();
        let outcome = |n, action, backend, result| body(action, scope(n), Some(backend), result);
        let (unblock, released) = (Action::Unblock, OutcomeResult::Released);
        assert_eq!(
            text(&[
                outcome(7, unblock, "nft", released),
                outcome(7, unblock, "route", OutcomeResult::Already),
                outcome(7, unblock, "exec", OutcomeResult::Failed),
                outcome(8, Action::Block, "nft", OutcomeResult::Applied),
            ]),
            "192.0.2.7/32 is let in on nft\n192.0.2.7/32 was not blocked on route\n\
             192.0.2.7/32 could not be let in on exec\n192.0.2.8/32 is blocked on nft until it is unblocked\n"
        );
        let many: Vec<_> = (0..100).map(|n| outcome(n, Action::Block, "nft", released)).collect();
        let text = text(&many);
        assert_eq!(text.lines().count(), NAMED + 1);
        assert!(text.ends_with("80 more are let in on nft\n"), "{text}");
    }
}
