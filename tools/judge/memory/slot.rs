//! The place of one source in the table's slab: the source, its address, and its neighbours in the list.

use super::key::Key;
use super::source::Source;

/// 96 bytes.
pub(super) struct Slot {
    pub(super) source: Source,
    pub(super) high: u64,
    pub(super) low: u64,
    pub(super) prev: u32,
    pub(super) next: u32,
}

/// In the list of those who completed a handshake.
pub(super) const LINKED_KNOWN: u8 = 16;
/// Changed since the journal was last written.
pub(super) const DIRTY: u8 = 32;
/// The journal knows of it.
pub(super) const WRITTEN: u8 = 64;

impl Slot {
    pub(super) fn key(&self) -> Key {
        Key { high: self.high, low: self.low, len: self.source.len }
    }

    pub(super) fn has(&self, mark: u8) -> bool {
        self.source.marks & mark != 0
    }

    pub(super) fn mark(&mut self, mark: u8, on: bool) {
        if on {
            self.source.marks |= mark;
        } else {
            self.source.marks &= !mark;
        }
    }
}
