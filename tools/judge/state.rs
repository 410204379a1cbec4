//! All sources that are remembered, with a bound. When it is reached, the source seen longest ago is forgotten:
//! forgetting an undecided source only means that it starts again at nothing.

use lru::LruCache;
use psentry_records::Prefix;

use crate::Source;

/// The judge's memory.
#[derive(Debug)]
pub struct State {
    sources: LruCache<Prefix, Source>,
    max_sources: usize,
    evicted: u64,
}

impl State {
    /// Room for `max_sources`, at least one; taken as it is needed.
    #[must_use]
    pub fn new(max_sources: usize) -> Self {
        State { sources: LruCache::unbounded(), max_sources: max_sources.max(1), evicted: 0 }
    }

    /// What is known of the source of that scope; it counts as just seen.
    pub fn source(&mut self, scope: Prefix) -> &mut Source {
        if self.sources.len() >= self.max_sources && !self.sources.contains(&scope) {
            self.sources.pop_lru();
            self.evicted += 1;
        }
        self.sources.get_or_insert_mut(scope, Source::default)
    }

    /// How many sources are remembered.
    #[must_use]
    pub fn held(&self) -> usize {
        self.sources.len()
    }

    /// How many were forgotten for want of room.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}
