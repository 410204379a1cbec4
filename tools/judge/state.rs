//! All that the judge remembers; bounded in every part.

use psentry_records::Timestamp;

use crate::counters::Counters;
use crate::guard::{Brake, Clock, SweepTable, Vouchers};
use crate::memory::Table;

/// The judge's memory.
pub struct State {
    /// Sources.
    pub sources: Table,
    /// Who logged in.
    pub vouchers: Vouchers,
    /// Prefixes in which sources were convicted.
    pub sweeps: SweepTable,
    /// The brake.
    pub brake: Brake,
    /// The time of the stream.
    pub clock: Clock,
    /// What was done.
    pub counters: Counters,
    /// The minute of the last `stats` record.
    pub stats_at: Option<Timestamp>,
    /// Sentences for standard error, until they are written there.
    pub warnings: Vec<String>,
}

impl State {
    /// Retention for so many sources.
    #[must_use]
    pub fn new(max_sources: usize) -> Self {
        State {
            sources: Table::new(max_sources),
            vouchers: Vouchers::default(),
            sweeps: SweepTable::default(),
            brake: Brake::default(),
            clock: Clock::default(),
            counters: Counters::default(),
            stats_at: None,
            warnings: Vec::new(),
        }
    }
}
