//! Tables for people. Text that came from outside is escaped.

use std::time::Duration;

use psentry_records::{Outcome, OutcomeBody, Timestamp};
use psentry_stage::printable;
use terminal_size::{Width, terminal_size};

use crate::note::moment;
use crate::ports::named_shortly;

/// How wide a terminal is that does not say so.
const COLUMNS: usize = 100;

/// A reason of fewer letters says nothing.
const SHORTEST: usize = 16;

/// Which columns hold the ports, and the end.
const PORTS: usize = 2;
const UNTIL: usize = 4;

/// How wide the terminal is: as somebody says who exports it, or as the terminal does.
pub(super) fn columns() -> usize {
    let exported = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let asked =
        || terminal_size().map(|(Width(columns), _)| usize::from(columns)).filter(|columns| *columns > 0);
    exported.or_else(asked).unwrap_or(COLUMNS)
}

/// A table of blocks, with the reason if it has room in so many `columns`. For it the end goes: how much time is left is there
/// anyway.
pub(super) fn blocks(outcomes: &[Outcome], now: Timestamp, columns: usize) -> String {
    let head = ["SCOPE", "BACKEND", "PORTS", "LEFT", "UNTIL", "RULE"].map(str::to_owned);
    let row = |Outcome { common, body }: &Outcome| {
        [
            body.scope.to_string(),
            printable(body.backend.as_deref().unwrap_or("-")),
            if body.ports.is_empty() { "all".to_owned() } else { named_shortly(&body.ports, common.proto) },
            body.until.map_or_else(|| "-".to_owned(), |until| left(until.since(now))),
            body.until.map_or_else(|| "unblocked".to_owned(), moment),
            rule(body),
        ]
    };
    let all: Vec<[String; 6]> = std::iter::once(head).chain(outcomes.iter().map(row)).collect();
    let without = |left_out: &[usize]| -> (Vec<Vec<String>>, usize) {
        let cells = |row: &[String; 6]| {
            let cells = row.iter().enumerate().filter(|(place, _)| !left_out.contains(place));
            cells.map(|(_, cell)| cell.clone()).collect()
        };
        let rows: Vec<Vec<String>> = all.iter().map(cells).collect();
        let used: usize = widths(&rows).iter().map(|width| width + 2).sum();
        (rows, columns.saturating_sub(used))
    };
    // Where nobody is blocked on single ports the column says nothing.
    let nothing: &[usize] =
        if outcomes.iter().any(|outcome| !outcome.body.ports.is_empty()) { &[] } else { &[PORTS] };
    let (mut rows, mut room) = without(nothing);
    let reasons = outcomes.iter().map(|outcome| outcome.body.reason.as_deref());
    let with_reasons = reasons.clone().any(|reason| reason.is_some());
    if with_reasons && room < SHORTEST {
        let (shorter, more) = without(&[nothing, &[UNTIL]].concat());
        if more >= SHORTEST {
            (rows, room) = (shorter, more);
        }
    }
    if with_reasons && room >= SHORTEST {
        let texts = std::iter::once("REASON").chain(reasons.map(Option::unwrap_or_default));
        for (row, text) in rows.iter_mut().zip(texts) {
            row.push(shortened(&printable(text), room));
        }
    }
    lined_up(&rows)
}

/// The rule, and whether no handshake proves it: in the words of a note.
fn rule(body: &OutcomeBody) -> String {
    let rule = printable(body.rule.as_deref().unwrap_or("-"));
    if body.handshake == Some(false) { format!("{rule} (unproven)") } else { rule }
}

/// Rows with their columns lined up; the first one is the head.
pub(super) fn lined_up(rows: &[Vec<String>]) -> String {
    let widths = widths(rows);
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn widths(rows: &[Vec<String>]) -> Vec<usize> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    (0..columns).map(width).collect()
}

/// At most so many letters of a text.
fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(3)).chain("...".chars()).collect()
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
mod tests {
    use psentry_records::{Action, OutcomeResult, Proto};

    use super::*;
    use crate::commands::render::tests::outcome;

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
            blocks(&rows, now, 48),
            "SCOPE          BACKEND  LEFT   UNTIL                 RULE\n\
             192.0.2.7/32   nft      1h 2m  2026-11-22T16:06:10Z  fan\n\
             2001:db8::/64  route    -      unblocked             -\n"
        );
        assert_eq!(
            blocks(&rows, now, 60),
            "SCOPE          BACKEND  LEFT   RULE  REASON\n\
             192.0.2.7/32   nft      1h 2m  fan   7 ports within two s...\n\
             2001:db8::/64  route    -      -\n"
        );
        assert_eq!(
            blocks(&rows, now, 80),
            "SCOPE          BACKEND  LEFT   UNTIL                 RULE  REASON\n\
             192.0.2.7/32   nft      1h 2m  2026-11-22T16:06:10Z  fan   7 ports within two...\n\
             2001:db8::/64  route    -      unblocked             -\n"
        );
        assert_eq!(
            blocks(&rows[1..], now, 80).lines().next(),
            Some("SCOPE          BACKEND  LEFT  UNTIL      RULE")
        );
        rows[0].body.handshake = Some(false);
        assert!(blocks(&rows[..1], now, 48).contains("Z  fan (unproven)\n"));
        rows[0].body.handshake = None;
        (rows[0].body.ports, rows[0].common.proto) = (vec![22, 53], Some(Proto::Tcp));
        assert_eq!(
            blocks(&rows, now, 60),
            "SCOPE          BACKEND  PORTS      LEFT   UNTIL                 RULE\n\
             192.0.2.7/32   nft      22,53/tcp  1h 2m  2026-11-22T16:06:10Z  fan\n\
             2001:db8::/64  route    all        -      unblocked             -\n"
        );
        rows[1].body.rule = Some("\u{1b}[2J".to_owned());
        assert!(blocks(&rows, now, 60).contains("\\u{1b}[2J"));
    }

    #[test]
    fn spans_have_two_units() {
        for (seconds, text) in [(5, "5s"), (65, "1m 5s"), (7260, "2h 1m"), (90_000, "1d 1h")] {
            assert_eq!(left(Duration::from_secs(seconds)), text);
        }
    }
}
