//! The place of one source in the table's slab: the source, its address, and its neighbours in one of the lists that say
//! who is evicted first.

use super::key::Key;
use super::source::Source;

/// The order in which sources are evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EvictionClass {
    /// Its packets could all be forged.
    Forgeable,
    /// It completed a handshake, so its address is real.
    Known,
    /// Handshakes convicted it, and that is not forgiven yet.
    Offender,
}

/// The place of no slot: the end of a list.
pub(super) const NONE: u32 = u32::MAX;

/// A list through the slots, from the source seen last to the one seen longest ago.
#[derive(Clone, Copy)]
pub(super) struct List {
    pub(super) head: u32,
    pub(super) tail: u32,
    pub(super) len: usize,
}

pub(super) const EMPTY: List = List { head: NONE, tail: NONE, len: 0 };

/// 96 bytes, which is most of what a source costs.
pub(super) struct Slot {
    pub(super) source: Source,
    pub(super) high: u64,
    pub(super) low: u64,
    pub(super) prev: u32,
    pub(super) next: u32,
}

/// It is in the list of those who completed a handshake.
pub(super) const LINKED_KNOWN: u8 = 16;
/// It is in the list of sources that handshakes convicted.
pub(super) const LINKED_OFFENDER: u8 = 128;
/// It changed since the journal was last written.
pub(super) const DIRTY: u8 = 32;
/// It is in the journal, so that its removal has to be written there, too.
pub(super) const WRITTEN: u8 = 64;

impl Slot {
    pub(super) fn key(&self) -> Key {
        Key { high: self.high, low: self.low, len: self.source.len }
    }

    /// In which list it is.
    pub(super) fn list(&self) -> EvictionClass {
        match (self.has(LINKED_OFFENDER), self.has(LINKED_KNOWN)) {
            (true, _) => EvictionClass::Offender,
            (false, true) => EvictionClass::Known,
            (false, false) => EvictionClass::Forgeable,
        }
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.source.flags & flag != 0
    }

    pub(super) fn set_flag(&mut self, flag: u8, on: bool) {
        if on {
            self.source.flags |= flag;
        } else {
            self.source.flags &= !flag;
        }
    }
}
