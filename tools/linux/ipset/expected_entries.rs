//! How many entries a set of ipset should have by now. ipset reports no changes, and to count entries costs little: whether somebody
//! else added or deleted some is known by their number. Without I/O.

use std::collections::BTreeMap;
use std::time::Duration;

use psentry_records::Timestamp;

/// How far off an expiry may be: the kernel is given whole seconds.
const SLACK: Duration = Duration::from_secs(2);

/// The number of entries of one set. Should it be wrong, because the clock was set or because an entry was not there that was
/// thought to be, the set has to be listed once more.
#[derive(Debug, Default)]
pub struct ExpectedEntries {
    entries: i64,
    /// How many of them end in which second.
    ends: BTreeMap<u64, i64>,
}

impl ExpectedEntries {
    /// So many entries more (or less, if negative) that end then.
    pub fn add(&mut self, count: i64, until: Option<Timestamp>) {
        self.entries += count;
        if let Some(until) = until {
            *self.ends.entry(until.secs_ceil()).or_default() += count;
        }
    }

    /// Whether a set that has so many entries now was changed by nobody else.
    pub fn explains(&mut self, entries: u32, now: Timestamp) -> bool {
        let (over, soon) = (now.minus(SLACK).secs_ceil(), now.plus(SLACK).secs_ceil());
        let later = self.ends.split_off(&over);
        self.entries -= std::mem::replace(&mut self.ends, later).values().sum::<i64>();
        let maybe: i64 = self.ends.range(..=soon).map(|(_, count)| count).sum();
        (self.entries - maybe..=self.entries).contains(&entries.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Option<Timestamp> {
        Timestamp::from_secs(1000 + second)
    }

    #[test]
    fn what_expires_is_explained_and_what_others_do_is_not() {
        let mut set = ExpectedEntries::default();
        for until in [at(10), at(20), at(20), None] {
            set.add(1, until);
        }
        let mut explains = |entries, second| set.explains(entries, at(second).unwrap());
        assert!(explains(4, 0) && !explains(3, 0) && !explains(5, 0));
        assert!(explains(4, 9) && explains(3, 9) && explains(4, 11) && explains(3, 11), "about to end");
        assert!(!explains(4, 13) && explains(3, 13) && !explains(2, 13));
        assert!(explains(1, 100) && !explains(0, 100), "the last one has no end");
    }

    #[test]
    fn our_own_changes_are_explained() {
        let mut set = ExpectedEntries::default();
        set.add(1, at(10));
        // It is replaced by one that ends later.
        set.add(-1, at(10));
        set.add(1, at(50));
        assert!(set.explains(1, at(20).unwrap()) && !set.explains(0, at(20).unwrap()));
        set.add(-1, at(50));
        assert!(set.explains(0, at(20).unwrap()) && set.explains(0, at(60).unwrap()));
    }
}
