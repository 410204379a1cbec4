//! Whether there is room for one block more: `--max-blocks`. What is turned down for want of room is not blocked later
//! either, so people who ask are told as long as there is none, and for a minute after the last one. A pure decision: the
//! moment is always given.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use psentry_records::Prefix;
use serde::{Deserialize, Serialize};

use crate::backend::Block;
use crate::ledger::Ledger;
use crate::run::brake::Holding;

/// How long nobody must have been turned down until it is not told any more, once there is room.
const MINUTE: Duration = Duration::from_secs(60);

/// How many were turned down for want of room, and when the last one was.
#[derive(Default)]
pub(crate) struct Room(Option<(usize, Instant)>);

/// That there is no room, or was none a moment ago, for people who ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Full {
    /// How many blocks there may be.
    max_blocks: usize,
    /// How many more were turned down.
    pub(crate) refused: usize,
}

/// Whom backends let in without a verdict: by hand, by a command. What the ledger believes of them does no harm, but it takes
/// room.
#[derive(Default)]
pub(crate) struct Gone(HashMap<Prefix, HashMap<&'static str, Block>>);

impl Gone {
    /// This backend let them in, each with the block that is not wanted any more.
    pub(crate) fn note(&mut self, backend: &'static str, let_in: Vec<(Prefix, Block)>) {
        for (scope, was) in let_in {
            self.0.entry(scope).or_default().insert(backend, was);
        }
    }

    /// It was decided anew.
    pub(crate) fn forget(&mut self, scope: Prefix) {
        self.0.remove(&scope);
    }

    /// How many they are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Makes room of what none of so many backends wants any more, and was not decided anew.
    pub(crate) fn make_room(&mut self, ledger: &mut Ledger, backends: usize) {
        self.0.retain(|scope, on| {
            let wanted = on.values().all(|was| ledger.wants(*scope, was));
            if wanted && on.len() >= backends {
                ledger.forget(*scope);
            }
            wanted && on.len() < backends
        });
    }
}

/// What keeps new blocks from being made on any backend, for people who ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// That the brake holds.
    pub(crate) brake: Option<Holding>,
    /// That there is no room.
    pub(crate) full: Option<Full>,
}

impl Room {
    /// So many more were turned down.
    pub(crate) fn turned_down(&mut self, more: usize, now: Instant) {
        let count = self.0.map_or(0, |(count, _)| count);
        self.0 = Some((count.saturating_add(more), now));
    }

    /// There was room for one: what was turned down long ago is told no more.
    pub(crate) fn had(&mut self, now: Instant) {
        self.0.take_if(|(_, last)| now.saturating_duration_since(*last) >= MINUTE);
    }

    /// Whether it is full, with so many `blocks` of at most `most`.
    pub(crate) fn full(&self, blocks: usize, most: usize, now: Instant) -> Option<Full> {
        let lately = self.0.is_some_and(|(_, last)| now.saturating_duration_since(last) < MINUTE);
        let refused = self.0.map_or(0, |(count, _)| count);
        (lately || blocks >= most).then_some(Full { max_blocks: most, refused })
    }
}

impl Full {
    /// As a sentence.
    pub(crate) fn sentence(self) -> String {
        let Full { max_blocks, refused } = self;
        let blocks = if refused == 1 { "block was" } else { "blocks were" };
        format!("there is no room: {refused} new {blocks} turned down, with --max-blocks {max_blocks}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_while_there_is_no_room_and_a_minute_longer() {
        let (mut room, start) = (Room::default(), Instant::now());
        let at = |second| start + Duration::from_secs(second);
        let full = |refused| Some(Full { max_blocks: 2, refused });
        assert_eq!((room.full(1, 2, at(0)), room.full(2, 2, at(0))), (None, full(0)));
        room.turned_down(1, at(1));
        room.turned_down(1, at(2));
        // Long ago, and still without room; then with some.
        assert_eq!(room.full(2, 2, at(600)), full(2));
        assert_eq!((room.full(1, 2, at(61)), room.full(1, 2, at(62))), (full(2), None));
        room.had(at(30));
        assert_eq!(room.full(2, 2, at(31)), full(2));
        room.had(at(62));
        assert_eq!(room.full(2, 2, at(63)), full(0));
        assert!(Full { max_blocks: 2, refused: 1 }.sentence().contains("1 new block was turned down"));
    }
}
