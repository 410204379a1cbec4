//! When the main loop writes the counters: once a minute, and when SIGUSR1 asks for them.

use std::time::Instant;

use psentry_records::Timestamp;

use crate::run::Stage;

impl Stage {
    /// Writes a `stats` record if one is due or asked for; whoever calls it begins another step of the main loop.
    pub(crate) fn write_stats(&mut self) {
        self.pulse.step();
        let asked = self.intake.requests().report;
        if self.stats.is_due(Instant::now()) || asked {
            self.ledger.expire(Timestamp::now());
            let waiting = self.workers.iter().map(|worker| worker.inbox.len()).sum::<usize>();
            self.reporter.stats(self.ledger.len(), waiting);
        }
    }
}
