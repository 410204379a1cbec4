//! What the journal has of the quarantine: a line for each source that is new in it. The record of each probe says the same; this is
//! for whoever asks `journalctl -t psentry-trap` what became of an address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use psentry_records::{Probe, Record};
use psentry_stage::{Journal, Priority};

/// The MESSAGE_ID of a new source's line, as psentry-records(5) has it.
const QUARANTINED: &str = "62d576ef149f45a09b275fb4d80f7ae1";

/// At most so many lines in ten seconds: a flood of forged sources is counted.
const MOST: u32 = 20;

/// How many sources are remembered, so that each has one line.
const CAPACITY: usize = 4096;

/// The journal, and until when each source that it has is in quarantine.
pub(crate) struct QuarantineJournal {
    journal: Journal,
    until: HashMap<IpAddr, Instant>,
}

impl QuarantineJournal {
    /// `None`: standard error is no journal.
    pub(crate) fn open() -> Option<Self> {
        Journal::open("psentry-trap", MOST)
            .map(|journal| QuarantineJournal { journal, until: HashMap::new() })
    }

    /// Takes note of a probe, and writes a line if it put its source into quarantine.
    pub(crate) fn probe(&mut self, record: &Record, now: Instant) {
        let Record::Probe(Probe { common, body }) = record else { return };
        let (Some(source), Some(seconds)) = (common.src_ip, body.quarantine) else { return };
        let until = now + Duration::from_secs(seconds.into());
        if self.until.len() >= CAPACITY {
            self.until.retain(|_, until| *until > now);
        }
        if let Some(known) = self.until.get_mut(&source).filter(|until| **until > now) {
            *known = until;
        } else if self.until.len() >= CAPACITY {
            self.journal.leave_out();
        } else {
            self.until.insert(source, until);
            let port = common.dest_port.map_or_else(String::new, |port| format!("{port}/"));
            let proto = common.proto.map_or_else(String::new, |proto| proto.name().to_ascii_lowercase());
            let message = format!("{source} touched {port}{proto} and is in quarantine for {seconds} s");
            self.journal.send(QUARANTINED, Priority::Info, &message, record, now);
        }
    }

    /// Says how many were left out, if any were: once a minute.
    pub(crate) fn report(&mut self) {
        self.journal.report_left_out();
    }
}
