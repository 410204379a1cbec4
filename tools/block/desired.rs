//! What is wanted: which scope is to be blocked, and until when. The engine alone changes it: by verdicts, by the ends of blocks,
//! by the allow list, by a panic. And whether there is room for one more: what is refused because there was no room is not blocked later
//! either, so people who ask are told as long as there is none, and for a minute after the last refusal. Pure: knows no backend,
//! does nothing, and never asks a clock.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use psentry_records::{Prefix, Timestamp};
use serde::{Deserialize, Serialize};

use crate::block::Block;

/// How long nobody must have been refused until it is not told any more, once there is room.
const MINUTE: Duration = Duration::from_secs(60);

/// The blocks that are wanted, at most `max_blocks`.
pub(crate) struct Desired {
    max_blocks: usize,
    blocks: HashMap<Prefix, Block>,
    /// Those that end, in the order in which they do.
    ends: BTreeSet<(Timestamp, Prefix)>,
    /// How many are not proven. They take half of the room at most, so that whoever forges leaves the rest of it.
    unproven: usize,
}

/// What a block that is asked for changes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    /// The scope is wanted like this from now on.
    Wanted,
    /// It was wanted already, for at least as long.
    Already,
    /// There is no room for it; that, as a sentence.
    Full(String),
}

impl Desired {
    /// Nothing.
    pub(crate) fn new(max_blocks: usize) -> Self {
        Desired { max_blocks, blocks: HashMap::new(), ends: BTreeSet::new(), unproven: 0 }
    }

    /// How many blocks are wanted.
    pub(crate) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// How a scope is wanted.
    pub(crate) fn get(&self, scope: Prefix) -> Option<&Block> {
        self.blocks.get(&scope)
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Prefix, &Block)> {
        self.blocks.iter().map(|(scope, block)| (*scope, block))
    }

    /// Those that overlap `scope`, in order.
    pub(crate) fn overlapping(&self, scope: Prefix) -> Vec<(Prefix, &Block)> {
        let mut found: Vec<(Prefix, &Block)> =
            self.iter().filter(|(other, _)| other.overlaps(scope)).collect();
        found.sort_unstable_by_key(|(scope, _)| *scope);
        found
    }

    /// Whether there is room for one block more.
    pub(crate) fn is_full(&self) -> bool {
        self.blocks.len() >= self.max_blocks
    }

    /// A verdict asks for a block. Of two for one scope both count: what either blocks is blocked, until both are over.
    pub(crate) fn block(&mut self, scope: Prefix, block: Block) -> Change {
        let both = match self.blocks.get(&scope) {
            Some(wanted) if wanted.covers(&block) => return Change::Already,
            Some(wanted) if block.covers(wanted) => block,
            Some(wanted) => wanted.joined(&block),
            None => {
                if let Some(why) = self.refusal(scope, &block) {
                    return Change::Full(why);
                }
                block
            }
        };
        self.put(scope, both);
        Change::Wanted
    }

    fn refusal(&self, scope: Prefix, block: &Block) -> Option<String> {
        let most = self.max_blocks;
        if self.is_full() {
            return Some(format!(
                "{scope} would be one block more than --max-blocks {most} allows; raise it, or let some end"
            ));
        }
        let half = block.unproven && self.unproven >= most.div_ceil(2);
        half.then(|| {
            format!(
                "no handshake proves {scope}, and such blocks take no more than half of --max-blocks {most}"
            )
        })
    }

    /// Makes room for as many as an earlier run wanted.
    pub(crate) fn reserve(&mut self, more: usize) {
        self.blocks.reserve(more.min(self.max_blocks));
    }

    /// Takes over what an earlier run wanted, unless there are too many; whether it has.
    pub(crate) fn restore(&mut self, scope: Prefix, block: Block) -> bool {
        !matches!(self.block(scope, block), Change::Full(_))
    }

    /// A scope is not wanted any more; as it was.
    pub(crate) fn release(&mut self, scope: Prefix) -> Option<Block> {
        let block = self.blocks.remove(&scope)?;
        self.unproven -= usize::from(block.unproven);
        if let Some(until) = block.until {
            self.ends.remove(&(until, scope));
        }
        Some(block)
    }

    /// When the next one ends.
    pub(crate) fn next_end(&self) -> Option<Timestamp> {
        self.ends.first().map(|(until, _)| *until)
    }

    /// Those that have ended, in the order of their ends; they are not wanted any more.
    pub(crate) fn expire(&mut self, now: Timestamp) -> Vec<(Prefix, Block)> {
        let mut expired = Vec::new();
        while let Some((_, scope)) = self.ends.first().copied().filter(|(until, _)| *until <= now) {
            expired.extend(self.release(scope).map(|block| (scope, block)));
        }
        expired
    }

    fn put(&mut self, scope: Prefix, block: Block) {
        self.release(scope);
        if let Some(until) = block.until {
            self.ends.insert((until, scope));
        }
        self.unproven += usize::from(block.unproven);
        self.blocks.insert(scope, block);
    }
}

/// How many were refused because there was no room, and when the last one was.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(n: u32) -> Prefix {
        Prefix::host(std::net::Ipv4Addr::from(0xc000_0200 + n).into())
    }

    fn block(seconds: Option<u64>, unproven: bool) -> Block {
        Block { until: seconds.and_then(Timestamp::from_secs), unproven, ..Block::default() }
    }

    #[test]
    fn the_longer_one_counts_and_what_is_proven_stays_so() {
        let mut desired = Desired::new(10);
        let steps = [
            (block(Some(100), true), Change::Wanted, block(Some(100), true)),
            (block(Some(90), true), Change::Already, block(Some(100), true)),
            (block(Some(90), false), Change::Wanted, block(Some(100), false)),
            (block(Some(200), true), Change::Wanted, block(Some(200), false)),
            (block(None, false), Change::Wanted, block(None, false)),
            (block(Some(300), false), Change::Already, block(None, false)),
        ];
        for (asked, change, wanted) in steps {
            assert_eq!(desired.block(scope(7), asked.clone()), change, "{asked:?}");
            assert_eq!(desired.get(scope(7)), Some(&wanted), "{asked:?}");
        }
        assert_eq!((desired.len(), desired.next_end(), desired.unproven), (1, None, 0));
    }

    #[test]
    fn what_is_not_proven_takes_half_of_the_room() {
        let mut desired = Desired::new(4);
        let unproven: Vec<Change> = (0..3).map(|n| desired.block(scope(n), block(None, true))).collect();
        assert!(matches!(&*unproven, [Change::Wanted, Change::Wanted, Change::Full(_)]), "{unproven:?}");
        let proven: Vec<Change> = (4..7).map(|n| desired.block(scope(n), block(None, false))).collect();
        assert!(matches!(&*proven, [Change::Wanted, Change::Wanted, Change::Full(_)]), "{proven:?}");
        // What is blocked already needs none.
        assert_eq!(desired.block(scope(0), block(None, false)), Change::Wanted);
        assert!(!desired.restore(scope(9), block(None, false)));
        assert!(desired.restore(scope(4), block(None, false)));
        desired.release(scope(1));
        assert_eq!(desired.block(scope(3), block(None, true)), Change::Wanted);
    }

    #[test]
    fn ends_come_in_their_order() {
        let mut desired = Desired::new(10);
        for (n, end) in [(1, Some(30)), (2, Some(10)), (3, None), (4, Some(20))] {
            desired.block(scope(n), block(end, false));
        }
        let at = |seconds| Timestamp::from_secs(seconds).unwrap();
        assert_eq!((desired.expire(at(9)).len(), desired.next_end()), (0, Some(at(10))));
        let gone: Vec<Prefix> = desired.expire(at(20)).into_iter().map(|(scope, _)| scope).collect();
        assert_eq!((gone, desired.len()), (vec![scope(2), scope(4)], 2));
    }

    #[test]
    fn who_holds_an_address_and_what_lies_in_a_network() {
        let mut desired = Desired::new(10);
        for text in ["192.0.2.0/24", "192.0.2.7", "192.0.2.8", "198.51.100.0/24"] {
            desired.block(text.parse().unwrap(), block(None, false));
        }
        let over = |text: &str| -> Vec<String> {
            let found = desired.overlapping(text.parse().unwrap());
            found.into_iter().map(|(scope, _)| scope.to_string()).collect()
        };
        assert_eq!(over("192.0.2.7"), ["192.0.2.0/24", "192.0.2.7/32"]);
        assert_eq!(over("192.0.2.0/28"), ["192.0.2.0/24", "192.0.2.7/32", "192.0.2.8/32"]);
    }
}
