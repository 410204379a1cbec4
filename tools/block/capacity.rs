//! Whether there is room for one block more: `--max-blocks`. What is refused for want of room is not blocked later either, so
//! people who ask are told as long as there is none, and for a minute after the last refusal. Pure: the moment is always
//! given.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// How long nobody must have been refused until it is not told any more, once there is room.
const MINUTE: Duration = Duration::from_secs(60);

/// How many were refused for want of room, and when the last one was.
#[derive(Default)]
pub(crate) struct Capacity(Option<(usize, Instant)>);

/// That there is no room, or was none a moment ago, for people who ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Full {
    /// How many blocks there may be.
    max_blocks: usize,
    /// How many more were refused.
    pub(crate) refused: usize,
}

impl Capacity {
    /// So many more were refused.
    pub(crate) fn refused(&mut self, more: usize, now: Instant) {
        let count = self.0.map_or(0, |(count, _)| count);
        self.0 = Some((count.saturating_add(more), now));
    }

    /// There was room for one: what was refused long ago is told no more.
    pub(crate) fn had_room(&mut self, now: Instant) {
        self.0.take_if(|(_, last)| now.saturating_duration_since(*last) >= MINUTE);
    }

    /// Whether it is full, with so many `blocks` of at most `max_blocks`.
    pub(crate) fn full(&self, blocks: usize, max_blocks: usize, now: Instant) -> Option<Full> {
        let lately = self.0.is_some_and(|(_, last)| now.saturating_duration_since(last) < MINUTE);
        let refused = self.0.map_or(0, |(count, _)| count);
        (lately || blocks >= max_blocks).then_some(Full { max_blocks, refused })
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
