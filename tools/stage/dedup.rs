//! Deduplication, for sensors: of alike contacts the first is written at once, and the others of the same window as one
//! record at its end. Bounded: when there is no room, the oldest window is evicted, which only means that it ends early.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// The windows that are open, by what makes contacts alike.
pub struct Dedup<K, V> {
    window: Duration,
    capacity: usize,
    open: HashMap<K, Window<V>>,
    /// When each window ends. They end in the order in which they began, since all last equally long.
    ends: VecDeque<(Instant, K)>,
    evicted: u64,
    pending: u64,
}

/// What came since the first contact of a window.
struct Window<V> {
    last: Option<V>,
    repeats: u32,
}

impl<K: Clone + Eq + Hash, V> Dedup<K, V> {
    /// Windows that last for `window`, at most `capacity` of them at a time.
    #[must_use]
    pub fn new(window: Duration, capacity: usize) -> Self {
        Dedup { window, capacity, open: HashMap::new(), ends: VecDeque::new(), evicted: 0, pending: 0 }
    }

    /// Whether `key` has no open window; it has one from now on. If it had, `value` is kept until the window ends.
    pub fn is_first(&mut self, now: Instant, key: K, value: impl FnOnce() -> V) -> bool {
        let first = !self.fold(&key, value);
        if first {
            self.open.insert(key.clone(), Window { last: None, repeats: 0 });
            self.ends.push_back((now + self.window, key));
        }
        first
    }

    /// Whether `key` has an open window; then `value` is kept until it ends. No window is opened: that is for whoever may
    /// refuse the first of a window.
    pub fn fold(&mut self, key: &K, value: impl FnOnce() -> V) -> bool {
        let Some(window) = self.open.get_mut(key) else { return false };
        self.pending += u64::from(window.repeats == 0);
        window.last = Some(value());
        window.repeats = window.repeats.saturating_add(1);
        true
    }

    /// The next window that is over and has repeats: the value that came last, and how many came since the first.
    pub fn expired(&mut self, now: Instant) -> Option<(V, u32)> {
        loop {
            let over = self.ends.front().is_some_and(|(end, _)| *end <= now);
            let full = self.open.len() > self.capacity;
            if !over && !full {
                return None;
            }
            let (_, key) = self.ends.pop_front()?;
            if !over {
                self.evicted = self.evicted.saturating_add(1);
            }
            if let Some(Window { last: Some(value), repeats }) = self.open.remove(&key) {
                self.pending = self.pending.saturating_sub(1);
                return Some((value, repeats));
            }
        }
    }

    /// When the next window ends.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Instant> {
        self.ends.front().map(|(end, _)| *end)
    }

    /// How many windows ended early because there was no room.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// How many open windows have repeats: each of them becomes a record when it ends.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.pending
    }

    /// The moment at which all windows are over, if none begins after `now`.
    #[must_use]
    pub fn last_expiry(&self, now: Instant) -> Instant {
        now + self.window
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_is_written_at_once_and_the_rest_as_one() {
        let mut dedup = Dedup::new(WINDOW, 10);
        let start = Instant::now();
        assert!(dedup.is_first(start, "a", || 1));
        assert!(!dedup.is_first(start, "a", || 2) && !dedup.is_first(start, "a", || 3));
        assert!(dedup.is_first(start, "b", || 4));
        assert_eq!(dedup.expired(start), None);
        assert_eq!((dedup.expired(start + WINDOW), dedup.expired(start + WINDOW)), (Some((3, 2)), None));
        assert!(dedup.is_first(start + WINDOW, "a", || 5));
    }

    proptest! {
        /// Whatever comes when: each probe is counted once, and no more windows are open than there may be.
        #[test]
        fn nothing_is_lost_and_memory_is_bounded(packets in proptest::collection::vec((0..40u8, 0..300u64), 1..400)) {
            let mut dedup = Dedup::new(WINDOW, 8);
            let (mut now, mut counted) = (Instant::now(), 0u32);
            for (key, wait) in &packets {
                now += Duration::from_millis(*wait);
                counted += std::iter::from_fn(|| dedup.expired(now)).map(|(_, repeats)| repeats).sum::<u32>();
                counted += u32::from(dedup.is_first(now, *key, || ()));
                prop_assert!(dedup.open.len() <= 9 && dedup.ends.len() == dedup.open.len());
            }
            let end = dedup.last_expiry(now);
            counted += std::iter::from_fn(|| dedup.expired(end)).map(|(_, repeats)| repeats).sum::<u32>();
            prop_assert_eq!(counted as usize, packets.len());
            prop_assert!(dedup.open.is_empty() && dedup.ends.is_empty());
        }
    }
}
