//! Counters as a record of the type `stats`, which is EVE's own, and as a sentence.

use std::collections::BTreeMap;

use psentry_records::Timestamp;
use serde::Serialize;

use crate::counters::Counters;

/// A record of counters. psentry-records(5) has no type for it, and its readers pass over it.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: Timestamp,
    event_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    stats: Stats<'a>,
}

/// The object `stats`: all counters count from the start.
#[derive(Serialize)]
struct Stats<'a> {
    sensor: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    kernel: BTreeMap<&'a str, u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    reader: BTreeMap<&'a str, u64>,
}

/// What the rules counted, as a line without its newline.
pub(crate) fn of_kernel(host: Option<&str>, counters: &Counters) -> Vec<u8> {
    line(host, Stats { sensor: "trap", kernel: counters.all().collect(), reader: BTreeMap::new() })
}

/// What the reader counted.
pub(crate) fn of_reader(host: Option<&str>, counts: &Counts) -> Vec<u8> {
    line(host, Stats { sensor: "trap", kernel: BTreeMap::new(), reader: counts.named().into() })
}

fn line(host: Option<&str>, stats: Stats<'_>) -> Vec<u8> {
    let line = Line { timestamp: Timestamp::now(), event_type: "stats", host, stats };
    // Only a map with keys that are no text could fail.
    serde_json::to_vec(&line).unwrap_or_default()
}

/// What the reader counts. Received packets are those of the probes, folded ones, those of handshakes with decoys,
/// and unreadable ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Packets that came.
    pub(crate) received: u64,
    /// Packets that the kernel told of, and found no room for.
    pub(crate) lost: u64,
    /// Probes that were written.
    pub(crate) probes: u64,
    /// Packets beyond the first of a probe.
    pub(crate) folded: u64,
    /// Packets of handshakes with decoys.
    pub(crate) handshakes: u64,
    /// Packets without an IP header.
    pub(crate) unreadable: u64,
    /// Windows that ended early for want of room.
    pub(crate) early: u64,
    /// SYNs to decoys that were given up for want of room.
    pub(crate) given_up: u64,
}

impl Counts {
    fn named(&self) -> [(&'static str, u64); 8] {
        [
            ("received", self.received),
            ("lost", self.lost),
            ("probes", self.probes),
            ("folded", self.folded),
            ("handshakes", self.handshakes),
            ("unreadable", self.unreadable),
            ("early", self.early),
            ("given_up", self.given_up),
        ]
    }
}

/// The last word on what the rules counted.
pub(crate) fn sentence(counters: &Counters) -> String {
    let of = |name| counters.get(name);
    let unheard = of("unheard_source").saturating_add(of("unheard_total"));
    format!(
        "{} packets seen, {unheard} of them beyond what is told of; {} quarantines, {} packets refused",
        of("seen"),
        of("quarantined"),
        of("refused")
    )
}

#[cfg(test)]
mod tests {
    use psentry_records::Record;

    use super::*;

    #[test]
    fn a_line_of_counters_is_a_record_that_passes() {
        let counters =
            Counters::parse("counter seen { packets 12 bytes 3 } counter quarantined { packets 2 }");
        for line in [of_kernel(Some("guard"), &counters), of_reader(None, &Counts::default())] {
            let line = String::from_utf8(line).unwrap();
            assert_eq!(Record::parse(&line), Ok(Record::Other("stats".to_owned())), "{line}");
        }
        let line = String::from_utf8(of_kernel(None, &counters)).unwrap();
        assert!(
            line.ends_with(r#""stats":{"sensor":"trap","kernel":{"quarantined":2,"seen":12}}}"#),
            "{line}"
        );
        assert!(sentence(&counters).starts_with("12 packets seen, 0 of them"), "{}", sentence(&counters));
    }
}
