//! The counters, told: as a `stats` record in the stream, as Suricata's EVE has one, and as a file in Prometheus' text
//! format.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;

use psentry_records::{Common, Record, Stats, StatsBody, Timestamp};
use psentry_stage::{DraftName, Replacement};

use crate::State;

/// How often counters are told, in the time of the records.
const MINUTE: i64 = 60_000_000;

/// The `stats` record of a state as of `at`, in the name of the machine `host`; `lost` records could not be written.
#[must_use]
pub fn record(state: &State, at: Timestamp, host: Option<&str>, lost: u64) -> Record {
    let counters = state.counters.named().map(|(name, _, value)| (name, value));
    let sources =
        [("lost", lost), ("sources", state.sources.held() as u64), ("evicted", state.sources.evicted())];
    let common = Common { host: host.map(str::to_owned), ..Common::at(at) };
    let body = StatsBody::new("judge", counters.into_iter().chain(sources));
    Record::Stats(Stats { common, body: body.with_wrong_settings(&state.wrong_settings) })
}

/// The record that is due, if a minute of the records' time has passed since the last one.
pub fn due(state: &mut State, host: Option<&str>, lost: u64) -> Option<Record> {
    let minute = Timestamp::from_micros(state.clock.now()?.micros() / MINUTE * MINUTE)?;
    let last = state.stats_at.replace(minute)?;
    (last != minute).then(|| record(state, minute, host, lost))
}

/// Writes the counters for node_exporter's textfile collector: beside the file, and then in its place.
///
/// # Errors
/// The file cannot be written.
pub fn write_metrics(state: &State, path: &Path) -> io::Result<()> {
    let mut text = String::new();
    let mut put = |name: &str, kind: &str, help: &str, value: u64| {
        // Writing to a string does not fail.
        let _ = write!(text, "# HELP {name} {help}.\n# TYPE {name} {kind}\n{name} {value}\n");
    };
    for (name, help, value) in state.counters.named() {
        put(&format!("psentry_judge_{name}_total"), "counter", help, value);
    }
    let evicted = state.sources.evicted();
    put("psentry_judge_evicted_total", "counter", "Sources forgotten for want of room", evicted);
    put("psentry_judge_sources", "gauge", "Sources remembered", state.sources.held() as u64);
    // node_exporter is another user; the umask may say otherwise.
    let (replacement, mut file) = Replacement::create(path, DraftName::Fixed, 0o666)?;
    file.write_all(text.as_bytes())?;
    // Not brought onto the disk: that would hold up records once a second, for counters that are of no use after a crash.
    replacement.rename()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_record_is_one_of_the_stream_and_the_file_is_prometheus_s() {
        let mut state = State::new(10);
        state.counters.records = 7;
        let at = Timestamp::from_secs(1_700_000_000).unwrap();
        let mut line = Vec::new();
        record(&state, at, Some("gate"), 3).encode(&mut line).unwrap();
        let line = String::from_utf8(line).unwrap();
        assert!(matches!(Record::parse(&line), Ok(Record::Stats(_))), "{line}");
        let begins = r#"{"timestamp":"2023-11-14T22:13:20.000000Z","event_type":"stats","host":"gate","stats":{"stage":"judge","records":7,"probes":0,"#;
        assert!(
            line.starts_with(begins) && line.ends_with("\"lost\":3,\"sources\":0,\"evicted\":0}}\n"),
            "{line}"
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("psentry.prom");
        write_metrics(&state, &path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("# TYPE psentry_judge_records_total counter\npsentry_judge_records_total 7\n"));
        assert!(text.lines().all(|line| line.starts_with("# ") || line.split(' ').count() == 2), "{text}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_minute_of_record_time_is_written_once() {
        let mut state = State::new(10);
        let mut at = |secs: u64| {
            state.clock.tick(Timestamp::from_secs(1_700_000_000 + secs).unwrap());
            due(&mut state, None, 0).is_some()
        };
        // 1,700,000,000 is 20 seconds past the minute.
        assert_eq!(
            [0, 1, 39, 40, 41, 400, 400].map(&mut at),
            [false, false, false, true, false, true, false]
        );
    }
}
