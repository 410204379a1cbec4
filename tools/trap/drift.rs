//! What others do to the table: which of it makes the rules other than they were loaded, and how soon they are loaded again. Sets
//! that the rules fill themselves, such as the quarantine, are the administrator's to change by hand.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use psentry_linux::Error;
use psentry_nftables::{Object, TableMonitor};

use crate::ruleset::TABLE;

/// A subscription to what others do to the rules.
pub(crate) type RuleMonitor = TableMonitor<Box<dyn Fn(Object<'_>) -> bool>>;

/// Subscribes. Elements of the sets `filled`, from flags and from the host's facts, belong to the rules.
pub(crate) fn watch(filled: BTreeSet<&'static str>) -> Result<RuleMonitor, Error> {
    TableMonitor::open(TABLE, None, Box::new(move |object| is_of_the_rules(&filled, object)))
}

fn is_of_the_rules(filled: &BTreeSet<&'static str>, object: Object<'_>) -> bool {
    match object {
        Object::Table { .. } | Object::Chain | Object::Rule => true,
        Object::Elements(set) => filled.contains(set),
        // Sets and counters: while the rules use them they cannot be deleted.
        Object::Other => false,
    }
}

/// So many repairs within a minute are made as soon as they are needed.
const MOST: usize = 5;

/// The time in which they are counted.
const MINUTE: Duration = Duration::from_secs(60);

/// How soon after a change: several often come together, as with a reload of the firewall.
const SETTLE: Duration = Duration::from_millis(100);

/// When the rules were loaded again lately.
#[derive(Default)]
pub(crate) struct RepairPace(VecDeque<Instant>);

impl RepairPace {
    /// How long a further one waits. Who changes the rules again and again is not fought.
    pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

    /// When to repair what was changed at `now`.
    pub(crate) fn due(&self, now: Instant) -> Instant {
        match self.0.back() {
            Some(last) if self.is_contested(now) => (now + SETTLE).max(*last + Self::PATIENCE),
            _ => now + SETTLE,
        }
    }

    /// Whether somebody changes the rules again and again.
    pub(crate) fn is_contested(&self, now: Instant) -> bool {
        let lately = self.0.iter().filter(|then| now.saturating_duration_since(**then) < MINUTE);
        lately.count() >= MOST
    }

    /// They were loaded again.
    pub(crate) fn repaired(&mut self, now: Instant) {
        self.0.push_back(now);
        if self.0.len() > MOST {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
#[path = "drift/tests.rs"]
mod tests;
