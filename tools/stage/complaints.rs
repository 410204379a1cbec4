//! Complaints on standard error, rate-limited, so that neither a broken neighbour nor an attacker can flood the log: a few
//! a minute are printed, the rest are counted, and the count is printed.

use std::time::{Duration, Instant};

use psentry_records::Malformed;

use crate::{printable, speak};

/// How many complaints a minute are printed one by one. More only repeat themselves.
const PRINTED: u32 = 10;

/// The span over which `PRINTED` counts.
const SPAN: Duration = Duration::from_secs(60);

/// The complaints of a program, and how many of them were printed.
pub struct Complaints {
    program: &'static str,
    since: Instant,
    printed: u32,
    suppressed: u64,
    skipped: u64,
}

impl Complaints {
    /// None yet; each will begin with the name of the program.
    #[must_use]
    pub fn new(program: &'static str) -> Self {
        Complaints { program, since: Instant::now(), printed: 0, suppressed: 0, skipped: 0 }
    }

    /// A line of the input that is no record.
    pub fn skipped(&mut self, line: u64, malformed: &Malformed) {
        self.skipped += 1;
        self.say(&format!("line {line} of the input skipped: {malformed}"));
    }

    /// Any other complaint, a sentence without the program's name.
    pub fn say(&mut self, sentence: &str) {
        if self.since.elapsed() >= SPAN {
            self.print_suppressed();
            self.since = Instant::now();
            self.printed = 0;
        }
        // Text from outside may be in it: serde quotes values.
        let short: String = sentence.chars().take(500).collect();
        if self.printed < PRINTED && self.print(&printable(&short)) {
            self.printed += 1;
        } else {
            self.suppressed += 1;
        }
    }

    fn print_suppressed(&mut self) {
        if self.suppressed > 0 && self.print(&format!("{} more complaints were not printed", self.suppressed))
        {
            self.suppressed = 0;
        }
    }

    fn print(&self, sentence: &str) -> bool {
        speak(&format!("{}: {sentence}", self.program))
    }
}

impl Drop for Complaints {
    /// The last word: what was not printed, and how much of the input was no record.
    fn drop(&mut self) {
        self.print_suppressed();
        if self.skipped > 0 {
            let lines = if self.skipped == 1 { "line" } else { "lines" };
            self.print(&format!("{} {lines} of the input skipped in all", self.skipped));
        }
    }
}
