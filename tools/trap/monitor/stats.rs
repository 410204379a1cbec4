//! What the monitor counts, and its part of a `stats` record.

use std::time::Instant;

use psentry_records::StatsBody;

use super::Monitor;
use crate::machine::machine;
use crate::rtnetlink;

impl Monitor {
    /// Adds what the rules counted since the last time; `false`: the table is gone.
    pub(super) fn read_counters(&mut self) -> bool {
        let new = match self.table.take_counters() {
            Ok(Some(new)) => new,
            Ok(None) => return false,
            Err(error) => {
                self.complaints.say(&error.to_string());
                return true;
            }
        };
        self.counters = self.counters.plus(new);
        if let Some(sentence) = self.full_quarantine.update(Instant::now(), &new) {
            self.complaints.say(&sentence);
        }
        if new.veil_full > 0 {
            self.complaints.say(&format!(
                "{} first packets to veiled ports were let through, because there was no room to remember them: more than \
                 32,768 new ones a second show these ports",
                new.veil_full
            ));
        }
        if new.over_rate > 0 {
            self.complaints
                .say(&format!("{} packets were beyond --rate and were not logged one by one", new.over_rate));
        }
        true
    }

    /// The monitor's part of a `stats` record. Where the kernel does not list the networks, it says nothing of them.
    pub(super) fn stats(&mut self) -> StatsBody {
        let networks = rtnetlink::read();
        if let Err(error) = &networks {
            self.complaints.say(&error.to_string());
        }
        let machine = networks.ok().map(|networks| machine(&networks, self.facts.client_ports));
        let body = StatsBody::new("trap", self.named_counters()).with_wrong_settings(&self.files.wrong());
        StatsBody { machine, ..body }
    }

    /// The monitor's counters by name.
    pub(super) fn named_counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let own = [
            ("repairs", self.repairs),
            ("panics", self.panics),
            ("vouches", self.lines.vouches),
            ("skipped", self.lines.skipped),
        ];
        self.counters.named().into_iter().chain(own)
    }
}
