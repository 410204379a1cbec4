//! All sources that are remembered, with a bound. A place in a slab is four bytes, so a source costs its own size and
//! about ten bytes of index. Three lists, each from newest to oldest, say who is evicted first: of those whose packets
//! could all be forged the one seen longest ago; when there are few of these, one that completed a handshake; and last
//! one whom handshakes convicted, because whoever has many addresses could otherwise wash that out with one handshake each.
//!
//! The index is hashed with a key that is drawn at random, because attackers choose the addresses; nothing that is
//! decided depends on the order in it.

mod changes;
mod lru;

use std::hash::{BuildHasher, RandomState};
use std::mem;

use hashbrown::HashTable;
use psentry_records::Prefix;

use super::key::Key;
use super::slot::{DIRTY, EMPTY, LINKED_KNOWN, LINKED_OFFENDER, List, NONE, Slot, WRITTEN};
use super::source::Source;

/// How many places are taken at once.
const CHUNK: usize = 1 << 12;

/// How many contacts beyond the two within a source there may be for each source of the bound.
const SPILL: usize = 4;

/// Of the bound, an eighth is always left to those whose packets could be forged, where new sources begin; and another
/// one to those who completed a handshake.
const RESERVE: usize = 8;

/// The judge's memory of sources.
pub struct Table {
    chunks: Vec<Vec<Slot>>,
    free: Vec<u32>,
    index: HashTable<u32>,
    hasher: RandomState,
    forgeable: List,
    known: List,
    offenders: List,
    most: usize,
    spilled: usize,
    evicted: u64,
    journaled: bool,
    restoring: bool,
    removed: Vec<Prefix>,
}

impl Table {
    /// Room for `most` sources, at least two; taken as it is needed.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Table {
            chunks: Vec::new(),
            free: Vec::new(),
            // All at once: to grow it would mean to hash every source again, and to hold two of it meanwhile.
            index: HashTable::with_capacity(most.max(2)),
            hasher: RandomState::new(),
            forgeable: EMPTY,
            known: EMPTY,
            offenders: EMPTY,
            most: most.max(2),
            spilled: 0,
            evicted: 0,
            journaled: false,
            restoring: false,
            removed: Vec::new(),
        }
    }

    /// Changes the bound; what is beyond it is forgotten at the next source.
    pub fn resize(&mut self, most: usize) {
        self.most = most.max(2);
    }

    /// From now on takes note of what changes, for a journal.
    pub(crate) fn keep_journal(&mut self) {
        self.journaled = true;
    }

    /// How many sources are remembered.
    #[must_use]
    pub fn held(&self) -> usize {
        self.forgeable.len + self.known.len + self.offenders.len
    }

    /// How many were forgotten because there was no room.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    pub(crate) fn set_evicted(&mut self, evicted: u64) {
        self.evicted = evicted;
    }

    /// What is known of that source, if it is remembered.
    #[must_use]
    pub fn peek(&self, scope: Prefix) -> Option<&Source> {
        self.slot(self.find(scope.into())?).map(|slot| &slot.source)
    }

    /// Changes what is known of that source, which is remembered from now on and counts as just seen.
    pub fn update<T>(&mut self, scope: Prefix, change: impl FnOnce(&mut Source) -> T) -> T {
        let key = Key::from(scope);
        let hash = self.hasher.hash_one(key);
        let place = match self.find_hashed(hash, key) {
            Some(place) => {
                self.unlink(place);
                place
            }
            None => {
                self.make_room();
                self.insert(hash, key)
            }
        };
        let Some(slot) = self.slot_mut(place) else { return change(&mut Source::default()) };
        let before = slot.source.spilled();
        let result = change(&mut slot.source);
        let after = slot.source.spilled();
        slot.set_flag(LINKED_KNOWN, slot.source.known());
        slot.set_flag(LINKED_OFFENDER, slot.source.offender());
        slot.set_flag(DIRTY, true);
        self.spilled = self.spilled + after - before;
        self.link(place);
        result
    }

    /// Until there is room for one more: forgets, first those whose packets could be forged.
    fn make_room(&mut self) {
        // While a journal is restored, all of it is kept: it was within the bounds, or will be at the next source.
        while self.held() >= self.most || (!self.restoring && self.spilled > self.most * SPILL) {
            let part = (self.most / RESERVE).max(1);
            let (forgeable, known, offender) = (self.forgeable.tail, self.known.tail, self.offenders.tail);
            let order = if self.offenders.len > self.most.saturating_sub(2 * part) {
                [offender, known, forgeable]
            } else if self.offenders.len + self.known.len > self.most - part {
                [known, offender, forgeable]
            } else {
                [forgeable, known, offender]
            };
            let oldest = order.into_iter().find(|&place| place != NONE).unwrap_or(NONE);
            if oldest == NONE {
                return;
            }
            self.free_slot(oldest);
            self.evicted += 1;
        }
    }

    /// Forgets the source of that scope, as if it had never been seen.
    pub(crate) fn remove(&mut self, scope: Prefix) {
        if let Some(place) = self.find(scope.into()) {
            self.free_slot(place);
        }
    }

    fn free_slot(&mut self, place: u32) {
        self.unlink(place);
        let Some(slot) = self.slot_mut(place) else { return };
        let (key, written) = (slot.key(), slot.has(WRITTEN));
        let spilled = mem::take(&mut slot.source).spilled();
        self.spilled -= spilled;
        if self.journaled && written {
            self.removed.push(key.into());
        }
        let hash = self.hasher.hash_one(key);
        if let Ok(entry) = self.index.find_entry(hash, |&held| held == place) {
            entry.remove();
        }
        self.free.push(place);
    }

    fn find(&self, key: Key) -> Option<u32> {
        self.find_hashed(self.hasher.hash_one(key), key)
    }

    fn find_hashed(&self, hash: u64, key: Key) -> Option<u32> {
        let same = |&place: &u32| {
            self.slot(place).is_some_and(|slot| {
                slot.low == key.low && slot.high == key.high && slot.source.len == key.len
            })
        };
        self.index.find(hash, same).copied()
    }

    /// A new source, in no list yet.
    fn insert(&mut self, hash: u64, key: Key) -> u32 {
        let Key { high, low, len } = key;
        let source = Source::placed(len, DIRTY);
        let slot = Slot { source, high, low, prev: NONE, next: NONE };
        let place = match self.free.pop() {
            Some(place) => {
                if let Some(old) = self.slot_mut(place) {
                    *old = slot;
                }
                place
            }
            None => {
                if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
                    self.chunks.push(Vec::with_capacity(CHUNK));
                }
                let full = (self.chunks.len() - 1) * CHUNK;
                let chunk = self.chunks.last_mut();
                let at = chunk.map_or(0, |chunk| {
                    chunk.push(slot);
                    chunk.len() - 1
                });
                u32::try_from(full + at).unwrap_or(NONE)
            }
        };
        let Table { index, chunks, hasher, .. } = self;
        index.insert_unique(hash, place, |&place| {
            hasher.hash_one(of(chunks, place).map_or_else(Key::default, Slot::key))
        });
        place
    }

    fn slot(&self, place: u32) -> Option<&Slot> {
        of(&self.chunks, place)
    }

    fn slot_mut(&mut self, place: u32) -> Option<&mut Slot> {
        self.chunks.get_mut(place as usize / CHUNK)?.get_mut(place as usize % CHUNK)
    }
}

fn of(chunks: &[Vec<Slot>], place: u32) -> Option<&Slot> {
    chunks.get(place as usize / CHUNK)?.get(place as usize % CHUNK)
}

#[cfg(test)]
mod tests;
