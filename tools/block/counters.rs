//! What psentry-block counts, for its `stats` records. Every thread counts; the main loop writes the record.

use std::sync::atomic::{AtomicU64, Ordering};

use psentry_log::LogCounts;
use psentry_records::{OutcomeResult, StatsBody};
use psentry_stage::counted;

/// Counters since the start.
#[derive(Default)]
pub(crate) struct Counters {
    /// Verdicts that were dealt with, also those of the control socket.
    pub(crate) verdicts: Counter,
    /// Lines of the input that were no record.
    pub(crate) skipped: Counter,
    /// Outcomes, one for each backend, by their result.
    outcomes: [Counter; 6],
    /// Blocks refused because the guard never lets the scope be blocked.
    pub(crate) guarded: Counter,
    /// Blocks refused by `--brake`.
    pub(crate) braked: Counter,
    /// Blocks refused for want of room (`--max-blocks`).
    pub(crate) no_room: Counter,
    /// Attempts to do what failed before.
    pub(crate) retries: Counter,
    /// Repairs of what others damaged, however many blocks each put back.
    pub(crate) repairs: Counter,
    /// What the log of `--log` counts.
    log: [Counter; 3],
    /// Records that a full disk behind standard output did not take.
    pub(crate) lost: Counter,
}

/// A number that several threads raise.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

/// The results in the order of psentry-records(5).
const RESULTS: [OutcomeResult; 6] = [
    OutcomeResult::Applied,
    OutcomeResult::Already,
    OutcomeResult::Refused,
    OutcomeResult::Failed,
    OutcomeResult::Released,
    OutcomeResult::Expired,
];

impl Counter {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Of what somebody else counts.
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    /// Counts an outcome.
    pub(crate) fn outcome(&self, result: OutcomeResult) {
        let counters = RESULTS.iter().zip(&self.outcomes);
        counters.filter(|(of, _)| **of == result).for_each(|(_, counter)| counter.add());
    }

    /// What the log has counted by now.
    pub(crate) fn set_log(&self, counts: LogCounts) {
        let LogCounts { over_rate, rotations, sources_evicted } = counts;
        for (counter, value) in self.log.iter().zip([over_rate, rotations, sources_evicted]) {
            counter.set(value);
        }
    }

    /// The last line of a run: how many verdicts there were, and the outcomes.
    pub(crate) fn summary(&self) -> String {
        let outcomes = RESULTS.iter().zip(&self.outcomes).map(|(of, counter)| (of.name(), counter.get()));
        let outcomes =
            outcomes.filter(|(_, count)| *count > 0).map(|(name, count)| format!(", {count} {name}"));
        let verdicts = counted(self.verdicts.get(), "verdict", "verdicts");
        format!("ended: {verdicts}{}", outcomes.collect::<String>())
    }

    /// The object `stats` of a record; `blocks` are wanted now, and `waiting` changes wait for a backend.
    pub(crate) fn body(&self, blocks: u64, waiting: u64) -> StatsBody {
        let outcomes = RESULTS.iter().zip(&self.outcomes).map(|(of, counter)| (of.name(), counter.get()));
        let input = [("verdicts", self.verdicts.get()), ("skipped", self.skipped.get())];
        let rest = [
            ("guarded", self.guarded.get()),
            ("braked", self.braked.get()),
            ("no_room", self.no_room.get()),
            ("retries", self.retries.get()),
            ("repairs", self.repairs.get()),
            ("lost", self.lost.get()),
        ];
        let log = ["log_over_rate", "log_rotations", "log_sources_evicted"];
        let log = log.into_iter().zip(self.log.iter().map(Counter::get));
        let now = [("blocks", blocks), ("waiting", waiting)];
        StatsBody::new("block", input.into_iter().chain(outcomes).chain(rest).chain(log).chain(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_result_has_a_counter_and_all_are_in_order() {
        let counters = Counters::default();
        for (times, result) in (1..).zip(RESULTS) {
            (0..times).for_each(|_| counters.outcome(result));
        }
        counters.verdicts.add();
        counters.repairs.add();
        counters.set_log(LogCounts { over_rate: 9, rotations: 10, sources_evicted: 11 });
        counters.lost.set(2);
        assert_eq!(
            counters.summary(),
            "ended: 1 verdict, 1 applied, 2 already, 3 refused, 4 failed, 5 released, 6 expired"
        );
        let body = counters.body(7, 8);
        let names: Vec<&str> = body.counters.iter().map(|(name, _)| &**name).collect();
        assert_eq!(
            names.join(" "),
            "verdicts skipped applied already refused failed released expired guarded braked no_room retries repairs \
             lost log_over_rate log_rotations log_sources_evicted blocks waiting"
        );
        let values: Vec<u64> = body.counters.iter().map(|(_, value)| *value).collect();
        assert_eq!(values, [1, 0, 1, 2, 3, 4, 5, 6, 0, 0, 0, 0, 1, 2, 9, 10, 11, 7, 8]);
    }
}
