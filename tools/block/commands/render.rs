//! Outcomes for people: sentences on a terminal, lines of JSON otherwise. Text that came from outside is escaped.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use psentry_records::{Action, Outcome, OutcomeBody, OutcomeResult, Record};
use psentry_stage::printable;

use crate::error::Error;
use crate::note::moment;

/// How many released blocks of one backend are named one by one.
const NAMED: usize = 20;

/// Shows what came of a command.
pub(super) fn show(outcomes: &[Outcome], host: Option<&str>) -> Result<(), Error> {
    if io::stdout().is_terminal() { print(text(outcomes).as_bytes()) } else { print(&lines(outcomes, host)) }
}

/// Writes to standard output; a reader that has seen enough is no error.
pub(super) fn print(text: &[u8]) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Output(Arc::new(error))),
        _ => Ok(()),
    }
}

/// Outcomes as lines of JSON, in the name of `host`.
pub(super) fn lines(outcomes: &[Outcome], host: Option<&str>) -> Vec<u8> {
    let (mut text, mut line) = (Vec::new(), Vec::new());
    for outcome in outcomes {
        let mut outcome = outcome.clone();
        outcome.common.host = host.map(str::to_owned);
        if Record::Outcome(outcome).encode(&mut line).is_ok() {
            text.extend_from_slice(&line);
        }
    }
    text
}

/// Why an outcome is not what was asked for.
pub(super) fn trouble(body: &OutcomeBody) -> String {
    let backend =
        body.backend.as_ref().map_or_else(String::new, |backend| format!("{}: ", printable(backend)));
    format!("{backend}{}", printable(body.error.as_deref().unwrap_or("it is not known why")))
}

/// A sentence for each outcome, but not thousands of them.
fn text(outcomes: &[Outcome]) -> String {
    let (mut text, mut count): (String, BTreeMap<&str, usize>) = Default::default();
    for Outcome { body, .. } in outcomes {
        if body.result == OutcomeResult::Released {
            let count = count.entry(body.backend.as_deref().unwrap_or_default()).or_default();
            *count += 1;
            if *count > NAMED {
                continue;
            }
        }
        text.push_str(&sentence(body));
        text.push('\n');
    }
    for (backend, count) in count.into_iter().filter(|(_, count)| *count > NAMED) {
        text.push_str(&format!("{} more are released on {}\n", count - NAMED, printable(backend)));
    }
    text
}

fn sentence(body: &OutcomeBody) -> String {
    let scope = body.scope;
    let place =
        body.backend.as_ref().map_or_else(String::new, |backend| format!(" on {}", printable(backend)));
    let end = body.until.map_or_else(|| "it is unblocked".to_owned(), moment);
    let is = match (body.action, body.result) {
        (_, OutcomeResult::Released) => format!("{scope} is released{place}"),
        (Action::Unblock, OutcomeResult::Already) => format!("{scope} was not blocked{place}"),
        (Action::Unblock, OutcomeResult::Failed) => return format!("{scope} could not be unblocked{place}"),
        (_, OutcomeResult::Applied) => format!("{scope} is blocked{place} until {end}"),
        (_, OutcomeResult::Already) => format!("{scope} was blocked{place} already, until {end}"),
        // The command ends with why.
        (_, result) => return format!("{scope}{place}: {}", result.name()),
    };
    match &body.error {
        Some(more) => format!("{is}: {}", printable(more)),
        None => is,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use psentry_records::Common;

    use super::*;

    /// An outcome on 192.0.2.N.
    pub(crate) fn outcome(action: Action, n: u8, backend: Option<&str>, result: OutcomeResult) -> Outcome {
        let body = OutcomeBody {
            action,
            scope: format!("192.0.2.{n}").parse().unwrap(),
            backend: backend.map(str::to_owned),
            result,
            until: None,
            error: None,
            rule: None,
            reason: None,
            since: None,
            ports: Vec::new(),
            handshake: None,
        };
        Outcome { common: Common::at("2026-11-22T15:04:05Z".parse().unwrap()), body }
    }

    #[test]
    fn on_a_terminal_outcomes_are_text() {
        use OutcomeResult::*;
        let (block, unblock) = (Action::Block, Action::Unblock);
        let with = |action, result, change: fn(&mut OutcomeBody)| {
            let mut outcome = outcome(action, 7, Some("nft"), result);
            change(&mut outcome.body);
            sentence(&outcome.body)
        };
        let of = |action, result| with(action, result, |_| {});
        for (is, text) in [
            (of(block, Applied), "192.0.2.7/32 is blocked on nft until it is unblocked"),
            (
                with(block, Applied, |body| body.until = Some("2026-11-22T16:04:05Z".parse().unwrap())),
                "192.0.2.7/32 is blocked on nft until 2026-11-22T16:04:05Z",
            ),
            (
                with(block, Applied, |body| body.error = Some("it alone\u{1b}".to_owned())),
                "192.0.2.7/32 is blocked on nft until it is unblocked: it alone\\u{1b}",
            ),
            (of(block, Already), "192.0.2.7/32 was blocked on nft already, until it is unblocked"),
            (with(block, Refused, |body| body.backend = None), "192.0.2.7/32: refused"),
            (with(block, Failed, |body| body.error = Some("no".to_owned())), "192.0.2.7/32 on nft: failed"),
            (of(block, Released), "192.0.2.7/32 is released on nft"),
            (of(unblock, Released), "192.0.2.7/32 is released on nft"),
            (
                with(unblock, Released, |body| body.error = Some("it was never applied".to_owned())),
                "192.0.2.7/32 is released on nft: it was never applied",
            ),
            (of(unblock, Already), "192.0.2.7/32 was not blocked on nft"),
            (with(unblock, Already, |body| body.backend = None), "192.0.2.7/32 was not blocked"),
            (of(unblock, Failed), "192.0.2.7/32 could not be unblocked on nft"),
            (
                with(block, Released, |body| body.backend = Some("\u{202e}".to_owned())),
                "192.0.2.7/32 is released on \\u{202e}",
            ),
        ] {
            assert_eq!(is, text);
        }
    }

    #[test]
    fn nobody_reads_thousands_of_them() {
        let on = |backend: &'static str| {
            (0..100).map(move |n| outcome(Action::Block, n, Some(backend), OutcomeResult::Released))
        };
        let text = text(&on("nft").chain(on("route").take(NAMED)).collect::<Vec<_>>());
        assert_eq!(text.lines().count(), 2 * NAMED + 1);
        assert!(text.ends_with("80 more are released on nft\n"), "{text}");
    }

    #[test]
    fn programs_read_records_of_this_host() {
        let mut outcome = outcome(Action::Unblock, 7, Some("nft"), OutcomeResult::Released);
        outcome.common.host = Some("another".to_owned());
        assert_eq!(
            String::from_utf8(lines(&[outcome], Some("here"))).unwrap(),
            "{\"timestamp\":\"2026-11-22T15:04:05.000000Z\",\"event_type\":\"outcome\",\"host\":\"here\",\"outcome\":\
             {\"action\":\"unblock\",\"scope\":\"192.0.2.7/32\",\"backend\":\"nft\",\"result\":\"released\"}}\n"
        );
    }
}
