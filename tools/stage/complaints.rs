//! Complaints on standard error, so that neither a broken neighbour nor an attacker can flood the log: a few a
//! minute are printed, the rest are counted, and the count is told.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use psentry_records::Malformed;

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
        if self.spoken < SPOKEN {
            self.spoken += 1;
            // Text from outside may be in it (serde quotes values): no control character reaches a terminal.
            let clean: String =
                sentence.chars().map(|c| if c.is_control() { '?' } else { c }).take(500).collect();
            let _ = writeln!(io::stderr(), "{}: {clean}", self.program);
        } else {
            self.silent += 1;
        }
    }

    /// How many lines were skipped so far.
    #[must_use]
    pub fn lines_skipped(&self) -> u64 {
        self.skipped
    }

    fn tell_silent(&mut self) {
        if self.silent > 0 {
            let _ =
                writeln!(io::stderr(), "{}: {} more complaints were not printed", self.program, self.silent);
            self.silent = 0;
        }
    }
}

impl Drop for Complaints {
    /// The last word: what was not printed, and how much of the input was no record.
    fn drop(&mut self) {
        self.tell_silent();
        if self.skipped > 0 {
            let lines = if self.skipped == 1 { "line" } else { "lines" };
            let _ = writeln!(
                io::stderr(),
                "{}: {} {lines} of the input skipped in all",
                self.program,
                self.skipped
            );
        }
    }
}
