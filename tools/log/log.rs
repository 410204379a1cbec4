//! The log as its writer sees it: a record is admitted and appended, or it is counted.

use std::io;
use std::time::{Duration, Instant};

use psentry_records::Record;
use psentry_stage::{counted, speak};

use crate::admission::Admission;
use crate::log_file::LogFile;
use crate::settings::LogSettings;

/// For how long records that are left out are counted before they are reported.
const EVERY: Duration = Duration::from_secs(60);

/// A log that is kept within its size. Dropped, it reports what is not reported yet.
pub struct Log {
    program: &'static str,
    file: LogFile,
    rate: Option<u64>,
    admission: Option<Admission>,
    line: Vec<u8>,
    over_rate: u64,
    /// How many of `over_rate` were reported; and since when there are others.
    reported: u64,
    unreported: Option<Instant>,
}

/// What a log counts, since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogCounts {
    /// Records that were left out, as more came than the rate allows.
    pub over_rate: u64,
    /// How often the file was rotated.
    pub rotations: u64,
    /// Sources that were forgotten because there was no room: their next contact counts as a first one.
    pub sources_evicted: u64,
}

impl Log {
    /// Opens it, or makes it; `rate`: how many bytes a second it takes, `None`: as many as come. What is lost, or left
    /// out, is reported on standard error in the name of `program`.
    ///
    /// # Errors
    /// It is no regular file, or somebody else writes it. What the system refuses is no error: a full disk, or a directory that
    /// is not there or may not be written. Then that is reported, and the file is opened when it is over.
    pub fn open(
        settings: LogSettings,
        rate: Option<u64>,
        program: &'static str,
        now: Instant,
    ) -> io::Result<Self> {
        let file = LogFile::open(settings, now)?;
        let admission = rate.map(|rate| Admission::new(rate, now));
        let line = Vec::new();
        let mut log =
            Log { program, file, rate, admission, line, over_rate: 0, reported: 0, unreported: None };
        log.tell(now);
        Ok(log)
    }

    /// Writes a record.
    ///
    /// # Errors
    /// It cannot be written as a line. Errors of the file are not such an error.
    pub fn write(&mut self, record: &Record, now: Instant) -> io::Result<()> {
        record.encode(&mut self.line)?;
        self.append(record, now);
        self.tell(now);
        Ok(())
    }

    /// Passes on a record's line as it was read, without its newline.
    pub fn pass(&mut self, record: &Record, line: &[u8], now: Instant) {
        self.line.clear();
        self.line.extend_from_slice(line);
        self.line.push(b'\n');
        self.append(record, now);
        self.tell(now);
    }

    fn append(&mut self, record: &Record, now: Instant) {
        if self.admission.as_mut().is_none_or(|admission| admission.admits(record, self.line.len(), now)) {
            self.file.append(&self.line, now);
        } else {
            self.over_rate += 1;
            self.unreported.get_or_insert(now);
        }
    }

    fn tell(&mut self, now: Instant) {
        for sentence in [self.file.report(), self.report(now)].into_iter().flatten() {
            speak(&format!("{}: {sentence}", self.program));
        }
    }

    /// What is to be printed now of records that were left out.
    fn report(&mut self, now: Instant) -> Option<String> {
        let due = self.unreported.is_some_and(|since| now.saturating_duration_since(since) >= EVERY);
        due.then(|| self.left_out()).flatten()
    }

    fn left_out(&mut self) -> Option<String> {
        let count = self.over_rate - self.reported;
        (self.reported, self.unreported) = (self.over_rate, None);
        let left_out = counted(count, "record was", "records were");
        let rate = self.rate.unwrap_or_default();
        (count > 0).then(|| {
            format!("{left_out} left out of the log: more came than {rate} bytes a second (--log-rate)")
        })
    }

    /// What it counts.
    #[must_use]
    pub fn counts(&self) -> LogCounts {
        LogCounts {
            over_rate: self.over_rate,
            rotations: self.file.rotations,
            sources_evicted: self.admission.as_ref().map_or(0, Admission::evicted),
        }
    }

    /// How many records could not be written.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.file.lines().lost()
    }

    /// Why the last record was lost; `None`: it was not.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.file.lines().failure()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        for sentence in [self.left_out(), self.file.lines().summary()].into_iter().flatten() {
            speak(&format!("{}: {sentence}", self.program));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::{IpAddr, Ipv4Addr};
    use std::path::{Path, PathBuf};

    use psentry_records::{
        Action, Common, Kind, Outcome, OutcomeBody, OutcomeResult, Prefix, Probe, ProbeBody, Timestamp,
        Verdict, VerdictBody,
    };

    use super::*;

    fn open(path: &Path, size: &str, files: u32, rate: Option<u64>, now: Instant) -> Log {
        let settings: LogSettings = format!("{},{size},{files}", path.display()).parse().unwrap();
        Log::open(settings, rate, "test", now).unwrap()
    }

    fn probe(source: impl Into<IpAddr>, port: u16, handshake: bool) -> Record {
        let common =
            Common { src_ip: Some(source.into()), dest_port: Some(port), ..Common::at(Timestamp::now()) };
        Record::Probe(Probe { common, body: ProbeBody { handshake, ..ProbeBody::new(Kind::Syn) } })
    }

    fn verdict(scope: &str, action: Action, handshake: bool) -> Record {
        let reason = Some("It touched 2 ports that nobody has a reason to touch.".to_owned());
        let body = VerdictBody {
            handshake: Some(handshake),
            reason,
            ..VerdictBody::new(action, scope.parse().unwrap())
        };
        Record::Verdict(Verdict { common: Common::at(Timestamp::now()), body })
    }

    fn outcome(scope: &str) -> Record {
        let scope: Prefix = scope.parse().unwrap();
        let body = OutcomeBody::new(Action::Block, scope, Some("nft"), OutcomeResult::Applied);
        Record::Outcome(Outcome { common: Common::at(Timestamp::now()), body })
    }

    /// As `write` does, without a word.
    fn put(log: &mut Log, record: &Record, now: Instant) {
        record.encode(&mut log.line).unwrap();
        log.append(record, now);
    }

    /// All of the log, from the oldest record on; each file within its size.
    fn all(path: &Path, size: u64, files: u32) -> String {
        let rotated = (1..files + 5).rev().map(|times| PathBuf::from(format!("{}.{times}", path.display())));
        let files: Vec<PathBuf> = rotated.chain([path.to_owned()]).filter(|file| file.exists()).collect();
        let text = |file: &PathBuf| fs::read_to_string(file).unwrap();
        assert!(files.iter().all(|file| text(file).len() <= usize::try_from(size).unwrap()), "{files:?}");
        files.iter().map(text).collect()
    }

    /// An hour of a forged flood, of a flood from one source, and of one that forges two packets of each source; a minute
    /// after it began two hosts scan, one by handshakes and one by SYNs, which is blocked.
    #[test]
    fn an_hour_of_floods_stays_within_the_bound_and_a_scan_within_it_is_in_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.jsonl");
        let start = Instant::now();
        let settings: LogSettings = format!("{},256K,10", path.display()).parse().unwrap();
        let mut log = Log::open(settings.clone(), Some(settings.default_rate()), "test", start).unwrap();
        let (proven, forger) = ("192.0.2.7", "192.0.2.8");
        let mut forged = Ipv4Addr::new(10, 0, 0, 0).to_bits();
        for second in 0..3600 {
            let now = start + Duration::from_secs(second);
            for _ in 0..10 {
                forged += 1;
                let source = Ipv4Addr::from_bits(forged);
                put(&mut log, &probe(source, 23, false), now);
                put(&mut log, &verdict(&source.to_string(), Action::Watch, false), now);
                put(&mut log, &probe(Ipv4Addr::new(198, 51, 100, 1), 53, true), now);
            }
            if second == 60 {
                put(&mut log, &probe(proven.parse::<IpAddr>().unwrap(), 21, true), now);
                put(&mut log, &verdict(forger, Action::Block, false), now);
                put(&mut log, &outcome(forger), now);
            }
        }
        let text = all(&path, 256 << 10, 10);
        let counts = log.counts();
        let written = u64::try_from(text.lines().count()).unwrap();
        assert!(counts.over_rate > 80_000 && counts.rotations > 2, "{counts:?}");
        assert!(counts.sources_evicted == 0 && written > 3000, "{counts:?}");
        for scan in [
            format!(r#""src_ip":"{proven}""#),
            format!(r#""action":"block","scope":"{forger}/32","reason""#),
            format!(r#""action":"block","scope":"{forger}/32","backend":"nft","result":"applied""#),
        ] {
            assert!(text.contains(&scan), "{scan}");
        }
        // Nothing of that hour was rotated away.
        assert_eq!(written + counts.over_rate, 3600 * 30 + 3);
    }

    #[test]
    fn the_first_contact_of_a_source_is_in_the_log_however_often_another_comes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.jsonl");
        let start = Instant::now();
        let mut log = open(&path, "64K", 20, Some(4000), start);
        let mut contacts = 0;
        for second in 0..600 {
            let now = start + Duration::from_secs(second);
            // The same customer, who has more addresses than anybody remembers.
            let flooder = |host: u16| IpAddr::from([0x2001, 0xdb8, 0, 7, 0, 0, 0, host]);
            (0..50).for_each(|host| put(&mut log, &probe(flooder(host), 161, false), now));
            let other = IpAddr::from([0x2001, 0xdb8, 1, u16::try_from(second).unwrap(), 0, 0, 0, 1]);
            for handshake in [false, true] {
                put(&mut log, &probe(other, 23, handshake), now);
                contacts += 1;
            }
        }
        let text = all(&path, 64 << 10, 20);
        assert!(log.counts().over_rate > 10_000, "{:?}", log.counts());
        assert_eq!(text.matches("2001:db8:1:").count(), contacts);
    }

    #[test]
    fn what_is_left_out_is_reported_once_a_minute() {
        let folder = tempfile::tempdir().unwrap();
        let start = Instant::now();
        let mut log = open(&folder.path().join("log"), "64K", 2, Some(1), start);
        let reports: Vec<String> = (0..180)
            .filter_map(|second| {
                let now = start + Duration::from_secs(second);
                let record = probe(Ipv4Addr::new(192, 0, 2, 7), 23, false);
                let admitted = log.admission.as_mut().unwrap().admits(&record, 2000, now);
                if !admitted {
                    log.over_rate += 1;
                    log.unreported.get_or_insert(now);
                }
                log.report(now)
            })
            .collect();
        let said = |count| {
            format!("{count} records were left out of the log: more came than 1 bytes a second (--log-rate)")
        };
        // The first contact is written, and two of the rest.
        assert_eq!(reports, [said(61), said(61)]);
        assert!(log.left_out().unwrap().starts_with("55 records were"));
        assert_eq!(log.left_out(), None);
    }

    #[test]
    fn every_record_is_written_without_a_rate() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.jsonl");
        let start = Instant::now();
        let mut log = open(&path, "1M", 2, None, start);
        for _ in 0..1000 {
            put(&mut log, &probe(Ipv4Addr::new(192, 0, 2, 7), 23, false), start);
        }
        log.pass(&probe(Ipv4Addr::new(192, 0, 2, 7), 23, false), b"as it came", start);
        let text = all(&path, 1 << 20, 2);
        assert_eq!((text.lines().count(), log.counts()), (1001, LogCounts::default()));
        assert!(text.ends_with("}\nas it came\n"));
    }
}
