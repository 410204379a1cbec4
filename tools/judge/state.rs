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
    /// Until when the counters were last told of.
    pub told: Option<Timestamp>,
    /// What to complain about: sentences for standard error.
    pub notices: Vec<String>,
}

impl State {
    /// Room for so many sources.
    #[must_use]
    pub fn new(max_sources: usize) -> Self {
        State {
            sources: Table::new(max_sources),
            vouchers: Vouchers::default(),
            sweeps: SweepTable::default(),
            brake: Brake::default(),
            clock: Clock::default(),
            counters: Counters::default(),
            told: None,
            notices: Vec::new(),
        }
    }
}
