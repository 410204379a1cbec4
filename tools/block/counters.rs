//! What psentry-block counts, for its `stats` records.

use psentry_log::LogCounts;
use psentry_records::{OutcomeResult, StatsBody};
use psentry_stage::counted;

/// Counters since the start.
#[derive(Default)]
pub(crate) struct Counters {
    /// Verdicts that were dealt with, also those of the control socket.
    pub(crate) verdicts: u64,
    /// Lines of the input that were no record.
    pub(crate) skipped: u64,
    /// Outcomes, one for each backend, by their result.
    outcomes: [u64; 6],
    /// Blocks refused because the guard never lets the scope be blocked.
    pub(crate) guarded: u64,
    /// Blocks refused by `--brake`.
    pub(crate) braked: u64,
    /// Blocks refused because there was no room (`--max-blocks`).
    pub(crate) no_room: u64,
    /// Attempts to do what failed before.
    pub(crate) retries: u64,
    /// Repairs of what others damaged, however many blocks each put back.
    pub(crate) repairs: u64,
}

/// What the receiver of the records has counted by now.
#[derive(Clone, Default)]
pub(crate) struct SinkCounts {
    /// Records that a full disk did not take.
    pub(crate) lost: u64,
    /// What the log of `--log` counts.
    pub(crate) log: LogCounts,
}

/// The results in the order of psentry-records(5).
const RESULTS: [OutcomeResult; 6] = [
    OutcomeResult::Applied,
    OutcomeResult::Already,
    OutcomeResult::Refused,
    OutcomeResult::Failed,
    OutcomeResult::Released,
    OutcomeResult::Expired,
];

impl Counters {
    /// Counts an outcome.
    pub(crate) fn outcome(&mut self, result: OutcomeResult) {
        let counters = RESULTS.iter().zip(&mut self.outcomes);
        counters.filter(|(of, _)| **of == result).for_each(|(_, counter)| *counter += 1);
    }

    fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        RESULTS.iter().zip(self.outcomes).map(|(of, count)| (of.name(), count))
    }

    /// The last line of a run: how many verdicts there were, and the outcomes.
    pub(crate) fn summary(&self) -> String {
        let outcomes = self.outcomes().filter(|(_, count)| *count > 0);
        let outcomes = outcomes.map(|(name, count)| format!(", {count} {name}"));
        let verdicts = counted(self.verdicts, "verdict", "verdicts");
        format!("ended: {verdicts}{}", outcomes.collect::<String>())
    }

    /// The object `stats` of a record; `blocks` are wanted now, and `waiting` changes wait for a backend.
    pub(crate) fn body(&self, sink: &SinkCounts, blocks: u64, waiting: u64) -> StatsBody {
        let LogCounts { over_rate, rotations, sources_evicted } = sink.log;
        let input = [("verdicts", self.verdicts), ("skipped", self.skipped)];
        let rest = [
            ("guarded", self.guarded),
            ("braked", self.braked),
            ("no_room", self.no_room),
            ("retries", self.retries),
            ("repairs", self.repairs),
            ("lost", sink.lost),
            ("log_over_rate", over_rate),
            ("log_rotations", rotations),
            ("log_sources_evicted", sources_evicted),
            ("blocks", blocks),
            ("waiting", waiting),
        ];
        StatsBody::new("block", input.into_iter().chain(self.outcomes()).chain(rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_result_has_a_counter_and_all_are_in_order() {
        let mut counters = Counters::default();
        for (times, result) in (1..).zip(RESULTS) {
            (0..times).for_each(|_| counters.outcome(result));
        }
        (counters.verdicts, counters.repairs) = (1, 1);
        let log = LogCounts { over_rate: 9, rotations: 10, sources_evicted: 11 };
        assert_eq!(
            counters.summary(),
            "ended: 1 verdict, 1 applied, 2 already, 3 refused, 4 failed, 5 released, 6 expired"
        );
        let body = counters.body(&SinkCounts { lost: 2, log }, 7, 8);
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
