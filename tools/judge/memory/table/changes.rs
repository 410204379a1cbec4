//! What of the table a journal has to write, and what the table restores from it.

use std::mem;

use psentry_records::Prefix;

use super::Table;
use crate::memory::slot::{DIRTY, LINKED_KNOWN, LINKED_OFFENDER, WRITTEN};
use crate::memory::source::Source;

impl Table {
    /// Restores what was known of a source, as just seen.
    pub(crate) fn restore(&mut self, scope: Prefix, known: Source) {
        self.restoring = true;
        self.update(scope, |source| {
            let (len, flags) = (source.len, source.flags);
            *source = known;
            source.len = len;
            source.flags |= flags & (LINKED_KNOWN | LINKED_OFFENDER | DIRTY | WRITTEN);
        });
        self.restoring = false;
    }

    /// All sources, the one seen longest ago first: those whose packets could be forged, then the
    /// others, and last those whom handshakes convicted.
    pub(crate) fn oldest_first(&self) -> impl Iterator<Item = (Prefix, &Source)> {
        [self.forgeable, self.known, self.offenders].into_iter().flat_map(|list| {
            std::iter::successors(self.slot(list.tail), |slot| self.slot(slot.prev))
                .map(|slot| (slot.key().into(), &slot.source))
        })
    }

    /// The journal knows of all that is held now.
    pub(crate) fn all_written(&mut self) {
        self.removed.clear();
        for slot in self.chunks.iter_mut().flatten() {
            slot.set_flag(DIRTY, false);
            slot.set_flag(WRITTEN, true);
        }
    }

    /// Hands what changed since the last call to `write`: first who was forgotten, then the changed sources, the one
    /// seen longest ago first. What changed is at the heads of the lists, because it was seen since.
    pub(crate) fn drain_changes<E>(
        &mut self,
        mut write: impl FnMut(Prefix, Option<&Source>) -> Result<(), E>,
    ) -> Result<(), E> {
        for scope in mem::take(&mut self.removed) {
            write(scope, None)?;
        }
        for list in [self.forgeable, self.known, self.offenders] {
            let mut changed = Vec::new();
            let mut at = list.head;
            while let Some(slot) = self.slot(at)
                && slot.has(DIRTY)
            {
                changed.push(at);
                at = slot.next;
            }
            for place in changed.into_iter().rev() {
                if let Some(slot) = self.slot_mut(place) {
                    slot.set_flag(DIRTY, false);
                    slot.set_flag(WRITTEN, true);
                    write(slot.key().into(), Some(&slot.source))?;
                }
            }
        }
        Ok(())
    }
}
