//! Blocks, and anything else, as a table for people. Text that came from outside was cleaned where it was read
//! (`note.rs`, `backend::told`).

use std::time::Duration;

use psentry_records::{Prefix, Timestamp};
use terminal_size::{Width, terminal_size};

use crate::backend::Block;
use crate::note::moment;
use crate::ports::named_shortly;

/// How wide a terminal is that does not say so.
const COLUMNS: usize = 100;

/// A reason of fewer letters tells nothing.
const SHORTEST: usize = 16;

/// Which columns tell the ports, and the end.
const PORTS: usize = 2;
const UNTIL: usize = 4;

/// How wide the terminal is: as somebody says who exports it, or as the terminal does.
pub(crate) fn columns() -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let asked =
        || terminal_size().map(|(Width(columns), _)| usize::from(columns)).filter(|columns| *columns > 0);
    said.or_else(asked).unwrap_or(COLUMNS)
}

/// A table of blocks with the backend that holds each, and what else is known; with the reason, if it has room in so
/// many `columns`, for which the end goes: how much time is left is told anyway.
pub(crate) fn table(blocks: &[(&str, Prefix, Block)], now: Timestamp, columns: usize) -> String {
    let with_ports = blocks.iter().any(|(_, _, block)| !block.ports.is_empty());
    let head = ["SCOPE", "BACKEND", "PORTS", "LEFT", "UNTIL", "RULE"].map(str::to_owned);
    let row = |(backend, scope, block): &(&str, Prefix, Block)| {
        [
            scope.to_string(),
            (*backend).to_owned(),
            if block.ports.is_empty() { "all".to_owned() } else { named_shortly(&block.ports, block.proto) },
            block.until.map_or_else(|| "-".to_owned(), |until| left(until.since(now))),
            block.until.map_or_else(|| "unblocked".to_owned(), moment),
            rule(block),
        ]
    };
    let all: Vec<[String; 6]> = std::iter::once(head).chain(blocks.iter().map(row)).collect();
    let told = |left_out: &[usize]| -> (Vec<Vec<String>>, usize) {
        let cells = |row: &[String; 6]| {
            let cells = row.iter().enumerate().filter(|(place, _)| !left_out.contains(place));
            cells.map(|(_, cell)| cell.clone()).collect()
        };
        let rows: Vec<Vec<String>> = all.iter().map(cells).collect();
        let used: usize = widths(&rows).iter().map(|width| width + 2).sum();
        (rows, columns.saturating_sub(used))
    };
    // Where nobody is shut out of single ports the column tells nothing.
    let nothing: &[usize] = if with_ports { &[] } else { &[PORTS] };
    let (mut rows, mut room) = told(nothing);
    let reasons = blocks.iter().map(|(_, _, block)| block.reason.as_deref());
    let with_reasons = reasons.clone().any(|reason| reason.is_some());
    if with_reasons && room < SHORTEST {
        let (shorter, more) = told(&[nothing, &[UNTIL]].concat());
        if more >= SHORTEST {
            (rows, room) = (shorter, more);
        }
    }
    if with_reasons && room >= SHORTEST {
        let texts = std::iter::once("REASON").chain(reasons.map(Option::unwrap_or_default));
        for (row, text) in rows.iter_mut().zip(texts) {
            row.push(shortened(text, room));
        }
    }
    lined_up(&rows)
}

/// The rule, and whether no handshake proves what it says: in the words of a note.
fn rule(block: &Block) -> String {
    let rule = block.rule.as_deref().unwrap_or("-");
    if block.unproven { format!("{rule} (unproven)") } else { rule.to_owned() }
}

/// Rows with their columns lined up; the first one is the head.
pub(crate) fn lined_up(rows: &[Vec<String>]) -> String {
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

/// A span in its two largest units, as people say it.
pub(crate) fn left(span: Duration) -> String {
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
    use super::*;
    use psentry_records::Proto;

    #[test]
    fn a_table_lines_up_and_tells_the_reason_where_it_has_room() {
        let now: Timestamp = "2026-11-22T15:04:05Z".parse().unwrap();
        let block = |seconds: Option<u64>, reason: Option<&str>| Block {
            until: seconds.map(|seconds| now.plus(Duration::from_secs(seconds))),
            rule: seconds.map(|_| "fan".to_owned()),
            reason: reason.map(str::to_owned),
            ..Block::default()
        };
        let mut blocks = [
            ("nft", "192.0.2.7".parse().unwrap(), block(Some(3725), Some("7 ports within two seconds"))),
            ("route", "2001:db8::/64".parse().unwrap(), block(None, None)),
        ];
        let narrow = "SCOPE          BACKEND  LEFT   UNTIL                 RULE\n\
                      192.0.2.7/32   nft      1h 2m  2026-11-22T16:06:10Z  fan\n\
                      2001:db8::/64  route    -      unblocked             -\n";
        assert_eq!(table(&blocks, now, 48), narrow);
        assert_eq!(
            table(&blocks, now, 60),
            "SCOPE          BACKEND  LEFT   RULE  REASON\n\
             192.0.2.7/32   nft      1h 2m  fan   7 ports within two s...\n\
             2001:db8::/64  route    -      -\n"
        );
        assert_eq!(
            table(&blocks, now, 80),
            "SCOPE          BACKEND  LEFT   UNTIL                 RULE  REASON\n\
             192.0.2.7/32   nft      1h 2m  2026-11-22T16:06:10Z  fan   7 ports within two...\n\
             2001:db8::/64  route    -      unblocked             -\n"
        );
        assert_eq!(
            table(&blocks[1..], now, 80).lines().next(),
            Some("SCOPE          BACKEND  LEFT  UNTIL      RULE")
        );
        let unproven = ("nft", blocks[0].1, Block { unproven: true, ..blocks[0].2.clone() });
        assert!(table(&[unproven], now, 48).contains("Z  fan (unproven)\n"));
        (blocks[0].2.ports, blocks[0].2.proto) = (vec![22, 53], Some(Proto::Tcp));
        assert_eq!(
            table(&blocks, now, 60),
            "SCOPE          BACKEND  PORTS      LEFT   UNTIL                 RULE\n\
             192.0.2.7/32   nft      22,53/tcp  1h 2m  2026-11-22T16:06:10Z  fan\n\
             2001:db8::/64  route    all        -      unblocked             -\n"
        );
    }

    #[test]
    fn spans_are_told_in_two_units() {
        for (seconds, text) in [(5, "5s"), (65, "1m 5s"), (7260, "2h 1m"), (90_000, "1d 1h")] {
            assert_eq!(left(Duration::from_secs(seconds)), text);
        }
    }
}
