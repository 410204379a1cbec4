//! The records of a log rather than its lines: from a moment on, and only those about some scopes, where the others are not parsed.

use std::fs::File;
use std::path::Path;

use psentry_records::{Prefix, Record, Timestamp};

use crate::{FollowError, Follower, Start, Step};

/// What comes next of the records.
#[derive(Debug)]
pub enum RecordStep {
    /// A record, and its line.
    Record(String, Box<Record>),
    /// Lines are missing here, for this reason: a sentence.
    Missing(String),
    /// Nothing more was written yet.
    End,
}

/// A reader of the records of a log that is there.
pub struct Records {
    follower: Follower,
    since: Option<Timestamp>,
    scopes: Vec<Prefix>,
    /// What the line of a record about them has in it, one or the other.
    words: Vec<String>,
}

impl Records {
    /// Reads the records from that moment on, or from the oldest one; only those about one of these scopes, or without scopes all.
    ///
    /// # Errors
    /// A file of the log cannot be read. A log that is missing is no empty one.
    pub fn open(log: &Path, scopes: &[Prefix], since: Option<Timestamp>) -> Result<Self, FollowError> {
        File::open(log).map_err(FollowError::of(log))?;
        let is_early = |line: &str| Record::parse(line).is_ok_and(|record| record.timestamp() < since);
        let follower = match since {
            Some(_) => Follower::open_from(log, is_early)?,
            None => Follower::open(log, Start::Oldest)?,
        };
        Ok(Self::of(follower, scopes, since))
    }

    /// Reads the records that are written from now on; the log need not be there yet.
    ///
    /// # Errors
    /// A file of the log cannot be read.
    pub fn open_now(log: &Path, scopes: &[Prefix]) -> Result<Self, FollowError> {
        Ok(Self::of(Follower::open(log, Start::Now)?, scopes, None))
    }

    fn of(follower: Follower, scopes: &[Prefix], since: Option<Timestamp>) -> Self {
        // A record about a network around it does not name an address; only verdicts and outcomes are about networks.
        let name = |scope: &Prefix| if scope.is_host() { scope.addr().to_string() } else { String::new() };
        let wide = ["\"verdict\"", "\"outcome\""].map(str::to_owned);
        let words = scopes.iter().map(name).chain(wide).collect();
        Records { follower, since, scopes: scopes.to_vec(), words }
    }

    /// The next one, without waiting.
    ///
    /// # Errors
    /// A file cannot be read. It may be tried again.
    pub fn step(&mut self) -> Result<RecordStep, FollowError> {
        loop {
            let line = match self.follower.step()? {
                Step::Line(line) => line,
                Step::Missing(why) => return Ok(RecordStep::Missing(why)),
                Step::End => return Ok(RecordStep::End),
            };
            let line = String::from_utf8_lossy(&line);
            if !self.scopes.is_empty() && !self.words.iter().any(|word| line.contains(word)) {
                continue;
            }
            let record = Record::parse(&line).ok().filter(|record| self.is_meant(record));
            if let Some(record) = record {
                return Ok(RecordStep::Record(line.into_owned(), Box::new(record)));
            }
        }
    }

    fn is_meant(&self, record: &Record) -> bool {
        let is_about = |of: Prefix| self.scopes.iter().any(|scope| scope.overlaps(of));
        record.timestamp() >= self.since && (self.scopes.is_empty() || record.scope().is_some_and(is_about))
    }

    /// Waits until something more may have been written.
    pub fn wait(&self) {
        self.follower.wait(self.follower.patience());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(second: u8, addr: &str) -> String {
        format!(
            "{{\"timestamp\":\"2026-11-22T15:04:0{second}Z\",\"event_type\":\"probe\",\"src_ip\":\"{addr}\",\"probe\":{{\"kind\":\"syn\"}}}}"
        )
    }

    #[test]
    fn records_are_read_from_a_moment_on_and_about_a_scope() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("records.jsonl");
        assert!(Records::open(&log, &[], None).is_err(), "a log that is missing is an error");
        let network = r#"{"timestamp":"2026-11-22T15:04:03Z","event_type":"verdict","verdict":{"action":"block","scope":"192.0.2.0/24"}}"#;
        let other = r#"{"timestamp":"2026-11-22T15:04:04Z","event_type":"verdict","verdict":{"action":"block","scope":"198.51.100.0/24"}}"#;
        let lines = [&probe(1, "192.0.2.7"), "no record", &probe(2, "192.0.2.70"), network, other];
        std::fs::write(&log, lines.join("\n") + "\n").unwrap();
        let read = |scopes: &[&str], since: Option<&str>| {
            let scopes: Vec<Prefix> = scopes.iter().map(|scope| scope.parse().unwrap()).collect();
            let mut records =
                Records::open(&log, &scopes, since.map(|since| since.parse().unwrap())).unwrap();
            let mut read = Vec::new();
            while let RecordStep::Record(line, _) = records.step().unwrap() {
                read.push(lines.iter().position(|other| *other == line).unwrap());
            }
            read
        };
        assert_eq!(read(&[], None), [0, 2, 3, 4]);
        assert_eq!(read(&[], Some("2026-11-22T15:04:03Z")), [3, 4]);
        assert_eq!(read(&["192.0.2.7"], None), [0, 3]);
        assert_eq!(read(&["192.0.2.64/26"], None), [2, 3]);
        assert_eq!(read(&["203.0.113.1"], None), [] as [usize; 0]);
    }
}
