//! Complaints on standard error, so that neither a broken neighbour nor an attacker can flood the log: a few a
//! minute are printed, the rest are counted, and the count is told.

use std::time::{Duration, Instant};

use psentry_records::Malformed;

use crate::{printable, speak};

/// How many complaints a minute are printed one by one. More only repeat themselves.
const SPOKEN: u32 = 10;

/// The span over which `SPOKEN` counts.
const SPAN: Duration = Duration::from_secs(60);

/// What a program has to complain about, and how often.
pub struct Complaints {
    program: &'static str,
    since: Instant,
    spoken: u32,
    silent: u64,
    skipped: u64,
}

impl Complaints {
    /// Of the program of that name.
    #[must_use]
    pub fn new(program: &'static str) -> Self {
        Complaints { program, since: Instant::now(), spoken: 0, silent: 0, skipped: 0 }
    }

    /// A line of the input that is no record.
    pub fn skipped(&mut self, line: u64, malformed: &Malformed) {
        self.skipped += 1;
        self.say(&format!("line {line} of the input skipped: {malformed}"));
    }

    /// Any other complaint, a sentence without the program's name.
    pub fn say(&mut self, sentence: &str) {
        if self.since.elapsed() >= SPAN {
            self.tell_silent();
            self.since = Instant::now();
            self.spoken = 0;
        }
        // Text from outside may be in it: serde quotes values.
        let short: String = sentence.chars().take(500).collect();
        if self.spoken < SPOKEN && self.speak(&printable(&short)) {
            self.spoken += 1;
        } else {
            self.silent += 1;
        }
    }

    fn tell_silent(&mut self) {
        if self.silent > 0 && self.speak(&format!("{} more complaints were not printed", self.silent)) {
            self.silent = 0;
        }
    }

    fn speak(&self, sentence: &str) -> bool {
        speak(&format!("{}: {sentence}", self.program))
    }
}

impl Drop for Complaints {
    /// The last word: what was not printed, and how much of the input was no record.
    fn drop(&mut self) {
        self.tell_silent();
        if self.skipped > 0 {
            let lines = if self.skipped == 1 { "line" } else { "lines" };
            self.speak(&format!("{} {lines} of the input skipped in all", self.skipped));
        }
    }
}
