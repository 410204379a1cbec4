//! Blocks as a table for people. Text that came from outside was cleaned where it was read (`note.rs`).

use std::time::Duration;

use psentry_records::Timestamp;

use crate::backend::Entry;
use crate::note::moment;

/// A table of blocks with the backend that holds each.
pub(crate) fn table(blocks: &[(&str, Entry)], now: Timestamp) -> String {
    let head = ["SCOPE", "BACKEND", "LEFT", "UNTIL", "RULE"].map(str::to_owned);
    let row = |(backend, entry): &(&str, Entry)| {
        [
            entry.scope.to_string(),
            (*backend).to_owned(),
            entry.until.map_or_else(|| "-".to_owned(), |until| left(until.since(now))),
            entry.until.map_or_else(|| "unblocked".to_owned(), moment),
            entry.rule.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    };
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(blocks.iter().map(row)).collect();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..5).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A span in its two largest units, as people say it.
fn left(span: Duration) -> String {
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

    #[test]
    fn a_table_lines_up() {
        let now: Timestamp = "2026-11-22T15:04:05Z".parse().unwrap();
        let entry = |scope: &str, seconds: Option<u64>| {
            Entry::new(
                scope.parse().unwrap(),
                seconds.map(|seconds| now.plus(Duration::from_secs(seconds))),
                seconds.map(|_| "fan".to_owned()),
            )
        };
        let text =
            table(&[("nft", entry("192.0.2.7", Some(3725))), ("route", entry("2001:db8::/64", None))], now);
        assert_eq!(
            text,
            "SCOPE          BACKEND  LEFT   UNTIL                 RULE\n\
             192.0.2.7/32   nft      1h 2m  2026-11-22T16:06:10Z  fan\n\
             2001:db8::/64  route    -      unblocked             -\n"
        );
    }

    #[test]
    fn spans_are_told_in_two_units() {
        for (seconds, text) in [(5, "5s"), (65, "1m 5s"), (7260, "2h 1m"), (90_000, "1d 1h")] {
            assert_eq!(left(Duration::from_secs(seconds)), text);
        }
    }
}
