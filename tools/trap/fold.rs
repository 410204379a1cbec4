//! Probes that are alike become one: the first is told at once, the others of the same window together at its end.
//! Bounded: when there is no room, the oldest window ends early.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Windows that are open.
pub(crate) struct Fold<K, V> {
    window: Duration,
    most: usize,
    open: HashMap<K, Held<V>>,
    /// In the order in which they end, since all last equally long.
    ends: VecDeque<(Instant, K)>,
    early: u64,
}

/// An open window: what came last, and how many since the first.
struct Held<V> {
    last: Option<V>,
    more: u32,
}

impl<K: Clone + Eq + Hash, V> Fold<K, V> {
    /// Windows of a length, so many at most.
    pub(crate) fn new(window: Duration, most: usize) -> Self {
        Fold { window, most, open: HashMap::new(), ends: VecDeque::new(), early: 0 }
    }

    /// Whether `key` was not seen within its window. If it was, `value` is kept, to be told at the window's end.
    pub(crate) fn is_first(&mut self, now: Instant, key: K, value: impl FnOnce() -> V) -> bool {
        if let Some(held) = self.open.get_mut(&key) {
            held.last = Some(value());
            held.more = held.more.saturating_add(1);
            return false;
        }
        self.open.insert(key.clone(), Held { last: None, more: 0 });
        self.ends.push_back((now + self.window, key));
        true
    }

    /// The next window that has to end, if more than one came in it: what came last, and how many since the first.
    pub(crate) fn ended(&mut self, now: Instant) -> Option<(V, u32)> {
        loop {
            let over = self.ends.front().is_some_and(|(end, _)| *end <= now);
            let full = self.open.len() > self.most;
            if !over && !full {
                return None;
            }
            let (_, key) = self.ends.pop_front()?;
            if !over {
                self.early = self.early.saturating_add(1);
            }
            if let Some(Held { last: Some(value), more }) = self.open.remove(&key) {
                return Some((value, more));
            }
        }
    }

    /// When the next window ends.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.ends.front().map(|(end, _)| *end)
    }

    /// How many windows ended early for want of room.
    pub(crate) fn early(&self) -> u64 {
        self.early
    }

    /// After this all windows are over.
    pub(crate) fn end_of_all(&self, now: Instant) -> Instant {
        now + self.window
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_is_told_at_once_and_the_rest_as_one() {
        let mut fold = Fold::new(WINDOW, 10);
        let start = Instant::now();
        assert!(fold.is_first(start, "a", || 1));
        assert!(!fold.is_first(start, "a", || 2) && !fold.is_first(start, "a", || 3));
        assert!(fold.is_first(start, "b", || 4));
        assert_eq!(fold.ended(start), None);
        assert_eq!((fold.ended(start + WINDOW), fold.ended(start + WINDOW)), (Some((3, 2)), None));
        assert!(fold.is_first(start + WINDOW, "a", || 5));
    }

    proptest! {
        /// Whatever comes when: all are told, once, and no more windows are open than there may be.
        #[test]
        fn nothing_is_lost_and_memory_is_bounded(packets in proptest::collection::vec((0..40u8, 0..300u64), 1..400)) {
            let mut fold = Fold::new(WINDOW, 8);
            let (mut now, mut told) = (Instant::now(), 0u32);
            for (key, wait) in &packets {
                now += Duration::from_millis(*wait);
                told += std::iter::from_fn(|| fold.ended(now)).map(|(_, more)| more).sum::<u32>();
                told += u32::from(fold.is_first(now, *key, || ()));
                prop_assert!(fold.open.len() <= 9 && fold.ends.len() == fold.open.len());
            }
            let end = fold.end_of_all(now);
            told += std::iter::from_fn(|| fold.ended(end)).map(|(_, more)| more).sum::<u32>();
            prop_assert_eq!(told as usize, packets.len());
            prop_assert!(fold.open.is_empty() && fold.ends.is_empty());
        }
    }
}
