//! The place of one source in the table's slab: the source, its address, and its neighbours in the list.

use super::key::Key;
use super::source::Source;

/// Who is forgotten before whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Its packets could all be forged.
    Forgeable,
    /// It completed a handshake.
    Known,
    /// Handshakes convicted it.
    Offender,
}

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
/// In the list of those whom handshakes convicted.
pub(super) const LINKED_OFFENDER: u8 = 128;
/// Changed since the journal was last written.
pub(super) const DIRTY: u8 = 32;
/// The journal knows of it.
pub(super) const WRITTEN: u8 = 64;

impl Slot {
    pub(super) fn key(&self) -> Key {
        Key { high: self.high, low: self.low, len: self.source.len }
    }

    /// In which list it is.
    pub(super) fn list(&self) -> Class {
        match (self.has(LINKED_OFFENDER), self.has(LINKED_KNOWN)) {
            (true, _) => Class::Offender,
            (false, true) => Class::Known,
            (false, false) => Class::Forgeable,
        }
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
