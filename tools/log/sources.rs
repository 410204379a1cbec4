//! Which sources are in the log already, in bounded memory: the sources of the last contacts are known, and those that
//! came longest ago are forgotten first.

use std::collections::HashSet;
use std::hash::Hash;

/// A set of bounded size. When its younger half is full, the older half is forgotten, and the younger one becomes the older.
#[derive(Debug)]
pub(crate) struct Sources<K> {
    young: HashSet<K>,
    old: HashSet<K>,
    /// How many one half holds.
    half: usize,
    /// How many were forgotten because there was no room.
    pub(crate) evicted: u64,
}

impl<K: Copy + Eq + Hash> Sources<K> {
    /// Empty, with room for `most`.
    pub(crate) fn new(most: usize) -> Self {
        Sources { young: HashSet::new(), old: HashSet::new(), half: (most / 2).max(1), evicted: 0 }
    }

    /// Whether it is known. A source that is looked up counts as recently used.
    pub(crate) fn knows(&mut self, key: K) -> bool {
        if self.young.contains(&key) {
            return true;
        }
        let known = self.old.contains(&key);
        if known {
            self.remember(key);
        }
        known
    }

    /// From now on it is known.
    pub(crate) fn remember(&mut self, key: K) {
        if self.young.len() >= self.half {
            let young = std::mem::take(&mut self.young);
            let forgotten = self.old.iter().filter(|key| !young.contains(*key)).count();
            self.evicted = self.evicted.saturating_add(u64::try_from(forgotten).unwrap_or(u64::MAX));
            self.old = young;
        }
        self.young.insert(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_known_and_the_memory_is_bounded() {
        let mut sources = Sources::new(100);
        for key in 0..1000_u32 {
            assert!(!sources.knows(key));
            sources.remember(key);
            assert!(sources.knows(0) || key >= 100, "who comes again and again is known");
            assert!(sources.young.len() + sources.old.len() <= 100);
            assert!(
                (key.saturating_sub(48)..=key)
                    .all(|latest| sources.young.contains(&latest) || sources.old.contains(&latest))
            );
        }
        assert!(sources.evicted >= 880, "{}", sources.evicted);
    }
}
