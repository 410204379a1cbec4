//! How answers are printed: sentences and tables for people, or with `--json` lines of JSON for programs. Text that came from
//! outside is escaped for people.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use psentry_local_time::Clock;
use psentry_ports::named_ports_shortly;
use psentry_records::{Action, Outcome, OutcomeBody, OutcomeResult, Record, Timestamp};
use psentry_stage::printable;
use terminal_size::{Width, terminal_size};

use crate::cli::Flags;
use crate::error::Error;
use crate::outcomes::report;

/// How many released blocks of one backend are named one by one.
const NAMED: usize = 20;

/// What is said of a block that ends only when it is unblocked.
pub(super) const NO_END: &str = "no end";

/// How wide a terminal is that does not say so.
const COLUMNS: usize = 100;

/// Prints to standard output what is for people, or with `--json` what is for programs. A reader that has seen enough is no error.
pub(super) fn print(
    flags: &Flags,
    people: impl FnOnce() -> String,
    programs: impl FnOnce() -> Vec<u8>,
) -> Result<(), Error> {
    let text = if flags.json { programs() } else { people().into_bytes() };
    psentry_stage::print(&text).map_err(|error| Error::Output(Arc::new(error)))
}

/// Of several errors the first is that of the program, and the others are reported.
pub(super) fn first(errors: impl IntoIterator<Item = Error>) -> Result<(), Error> {
    let mut errors = errors.into_iter();
    let Some(first) = errors.next() else { return Ok(()) };
    errors.for_each(|error| report(&error.to_string()));
    Err(first)
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

/// Why an outcome is not what the command wants.
pub(super) fn trouble(body: &OutcomeBody) -> String {
    let backend =
        body.backend.as_ref().map_or_else(String::new, |backend| format!("{}: ", printable(backend)));
    format!("{backend}{}", printable(body.error.as_deref().unwrap_or("it is not known why")))
}

/// A sentence for each outcome, but not thousands of them.
pub(super) fn text(outcomes: &[Outcome], clock: &Clock) -> String {
    let (mut text, mut count): (String, BTreeMap<&str, usize>) = Default::default();
    for Outcome { body, .. } in outcomes {
        if body.result == OutcomeResult::Released {
            let count = count.entry(body.backend.as_deref().unwrap_or_default()).or_default();
            *count += 1;
            if *count > NAMED {
                continue;
            }
        }
        text.push_str(&sentence(body, clock));
        text.push('\n');
    }
    for (backend, count) in count.into_iter().filter(|(_, count)| *count > NAMED) {
        text.push_str(&format!("{} more are released on {}\n", count - NAMED, printable(backend)));
    }
    text
}

fn sentence(body: &OutcomeBody, clock: &Clock) -> String {
    let scope = body.scope;
    let place =
        body.backend.as_ref().map_or_else(String::new, |backend| format!(" on {}", printable(backend)));
    let end =
        body.until.map_or_else(|| format!(", {NO_END}"), |until| format!(" until {}", clock.moment(until)));
    let is = match (body.action, body.result) {
        (_, OutcomeResult::Released) => format!("{scope} is released{place}"),
        (Action::Unblock, OutcomeResult::Already) => format!("{scope} was not blocked{place}"),
        (Action::Unblock, OutcomeResult::Failed) => return format!("{scope} could not be unblocked{place}"),
        (_, OutcomeResult::Applied) => format!("{scope} is blocked{place}{end}"),
        (_, OutcomeResult::Already) => format!("{scope} was blocked{place} already{end}"),
        // The command ends with why.
        (_, result) => return format!("{scope}{place}: {}", result.name()),
    };
    match &body.error {
        Some(more) => format!("{is}: {}", printable(more)),
        None => is,
    }
}

/// How wide the terminal is: as somebody says who exports it, or as the terminal does.
fn columns() -> usize {
    let exported = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let asked =
        || terminal_size().map(|(Width(columns), _)| usize::from(columns)).filter(|columns| *columns > 0);
    exported.or_else(asked).unwrap_or(COLUMNS)
}

/// A table of blocks, as wide as this terminal.
pub(super) fn blocks(outcomes: &[Outcome]) -> String {
    blocks_within(outcomes, Timestamp::now(), columns())
}

/// A table of blocks, with as much of the reason as so many `columns` have room for.
fn blocks_within(outcomes: &[Outcome], now: Timestamp, columns: usize) -> String {
    if outcomes.is_empty() {
        return String::new();
    }
    let head = ["SCOPE", "BACKEND", "PORTS", "LEFT", "RULE", "REASON"].map(str::to_owned);
    let row = |Outcome { common, body }: &Outcome| {
        [
            body.scope.to_string(),
            printable(body.backend.as_deref().unwrap_or("-")),
            if body.ports.is_empty() {
                "all".to_owned()
            } else {
                named_ports_shortly(&body.ports, common.proto)
            },
            body.until.map_or_else(|| NO_END.to_owned(), |until| left(until.since(now))),
            rule(body),
            printable(body.reason.as_deref().unwrap_or("-")),
        ]
    };
    let rows: Vec<[String; 6]> = std::iter::once(head).chain(outcomes.iter().map(row)).collect();
    lined_up(&rows).lines().map(|line| shortened(line, columns) + "\n").collect()
}

/// The rule, and whether no handshake proves it: in the words of a note.
fn rule(body: &OutcomeBody) -> String {
    let rule = printable(body.rule.as_deref().unwrap_or("-"));
    if body.handshake == Some(false) { format!("{rule} (unproven)") } else { rule }
}

/// Rows with their columns lined up; the first one is the head.
pub(super) fn lined_up<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let mut widths = [0; COLUMNS];
    for row in rows {
        widths.iter_mut().zip(row).for_each(|(width, cell)| *width = cell.len().max(*width));
    }
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<String>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// At most so many letters of a line.
fn shortened(line: &str, most: usize) -> String {
    if line.len() <= most {
        return line.to_owned();
    }
    line.chars().take(most.saturating_sub(3)).chain("...".chars()).collect()
}

/// A span in its two largest units.
pub(super) fn left(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use psentry_local_time::Zone;
    use psentry_records::{Common, Proto};

    use super::*;

    /// What time it is to these tests.
    pub(crate) fn clock() -> Clock {
        Clock { now: "2026-11-22T15:04:05Z".parse().unwrap(), zone: Zone::east(1) }
    }

    /// An outcome on 192.0.2.N.
    pub(crate) fn outcome(action: Action, n: u8, backend: Option<&str>, result: OutcomeResult) -> Outcome {
        let scope = format!("192.0.2.{n}").parse().unwrap();
        let body = OutcomeBody::new(action, scope, backend, result);
        Outcome { common: Common::at("2026-11-22T15:04:05Z".parse().unwrap()), body }
    }

    #[test]
    fn people_read_outcomes_in_words() {
        use OutcomeResult::*;
        let (block, unblock) = (Action::Block, Action::Unblock);
        let with = |action, result, change: fn(&mut OutcomeBody)| {
            let mut outcome = outcome(action, 7, Some("nft"), result);
            change(&mut outcome.body);
            sentence(&outcome.body, &clock())
        };
        let of = |action, result| with(action, result, |_| {});
        for (is, text) in [
            (of(block, Applied), "192.0.2.7/32 is blocked on nft, no end"),
            (
                with(block, Applied, |body| body.until = Some("2026-11-22T16:04:05Z".parse().unwrap())),
                "192.0.2.7/32 is blocked on nft until 17:04:05 +01",
            ),
            (
                with(block, Applied, |body| body.error = Some("it alone\u{1b}".to_owned())),
                "192.0.2.7/32 is blocked on nft, no end: it alone\\u{1b}",
            ),
            (of(block, Already), "192.0.2.7/32 was blocked on nft already, no end"),
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
        let text = text(&on("nft").chain(on("route").take(NAMED)).collect::<Vec<_>>(), &clock());
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

    #[test]
    fn a_table_lines_up_and_has_the_reason_where_there_is_room() {
        let now: Timestamp = "2026-11-22T15:04:05Z".parse().unwrap();
        let mut first = outcome(Action::Block, 7, Some("nft"), OutcomeResult::Already);
        first.body.until = Some(now.plus(Duration::from_secs(3725)));
        first.body.rule = Some("fan".to_owned());
        first.body.reason = Some("7 ports within two seconds".to_owned());
        let mut second = outcome(Action::Block, 8, Some("route"), OutcomeResult::Already);
        second.body.scope = "2001:db8::/64".parse().unwrap();
        let mut rows = [first, second];
        assert_eq!(
            blocks_within(&rows, now, 80),
            "SCOPE          BACKEND  PORTS  LEFT    RULE  REASON\n\
             192.0.2.7/32   nft      all    1h 2m   fan   7 ports within two seconds\n\
             2001:db8::/64  route    all    no end  -     -\n"
        );
        rows[0].body.handshake = Some(false);
        (rows[0].body.ports, rows[0].common.proto) = (vec![22, 53], Some(Proto::Tcp));
        rows[1].body.rule = Some("\u{1b}[2J".to_owned());
        assert_eq!(
            blocks_within(&rows, now, 72),
            "SCOPE          BACKEND  PORTS      LEFT    RULE            REASON\n\
             192.0.2.7/32   nft      22,53/tcp  1h 2m   fan (unproven)  7 ports wi...\n\
             2001:db8::/64  route    all        no end  \\u{1b}[2J       -\n"
        );
    }

    #[test]
    fn spans_have_two_units() {
        for (seconds, text) in [(5, "5s"), (65, "1m 5s"), (7260, "2h 1m"), (90_000, "1d 1h")] {
            assert_eq!(left(Duration::from_secs(seconds)), text);
        }
    }
}
