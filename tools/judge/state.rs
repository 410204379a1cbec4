//! All that the judge remembers; bounded in every part.

use psentry_records::Timestamp;

use crate::brake::Brake;
use crate::clock::Clock;
use crate::counters::Counters;
use crate::machine::MachineFacts;
use crate::memory::Table;
use crate::sweeps::SweepTable;
use crate::vouchers::Vouchers;

/// The judge's memory: all that a decision depends on beside the policy and the record.
pub struct State {
    /// What each source did.
    pub sources: Table,
    /// Addresses that logged in.
    pub vouchers: Vouchers,
    /// Prefixes in which sources were convicted.
    pub sweeps: SweepTable,
    /// How many blocks there were lately, and whether that is too many.
    pub brake: Brake,
    /// The time of the stream.
    pub clock: Clock,
    /// The networks and client ports of the machine that is probed.
    pub machine: MachineFacts,
    /// What was done, for `stats` records and metrics.
    pub counters: Counters,
    /// The minute of the last `stats` record.
    pub stats_at: Option<Timestamp>,
    /// What is wrong with settings, so that copies of them count, each as a sentence.
    pub wrong_settings: Vec<String>,
    /// Sentences for standard error, until they are written there.
    pub warnings: Vec<String>,
}

impl State {
    /// An empty memory with room for so many sources, at least two.
    #[must_use]
    pub fn new(max_sources: usize) -> Self {
        State {
            sources: Table::new(max_sources),
            vouchers: Vouchers::default(),
            sweeps: SweepTable::default(),
            brake: Brake::default(),
            clock: Clock::default(),
            machine: MachineFacts::default(),
            counters: Counters::default(),
            stats_at: None,
            wrong_settings: Vec::new(),
            warnings: Vec::new(),
        }
    }
}
