//! The lists through the table's slots, one for each class, in the order of last use.

use super::Table;
use crate::memory::slot::{EvictionClass, List, NONE};

impl Table {
    fn list_mut(&mut self, class: EvictionClass) -> &mut List {
        match class {
            EvictionClass::Forgeable => &mut self.forgeable,
            EvictionClass::Known => &mut self.known,
            EvictionClass::Offender => &mut self.offenders,
        }
    }

    pub(super) fn unlink(&mut self, place: u32) {
        let Some(slot) = self.slot_mut(place) else { return };
        let (prev, next, class) = (slot.prev, slot.next, slot.list());
        match self.slot_mut(prev) {
            Some(slot) => slot.next = next,
            None => self.list_mut(class).head = next,
        }
        match self.slot_mut(next) {
            Some(slot) => slot.prev = prev,
            None => self.list_mut(class).tail = prev,
        }
        self.list_mut(class).len -= 1;
    }

    pub(super) fn link(&mut self, place: u32) {
        let Some(slot) = self.slot_mut(place) else { return };
        let class = slot.list();
        let head = self.list_mut(class).head;
        if let Some(slot) = self.slot_mut(place) {
            (slot.prev, slot.next) = (NONE, head);
        }
        match self.slot_mut(head) {
            Some(slot) => slot.prev = place,
            None => self.list_mut(class).tail = place,
        }
        let list = self.list_mut(class);
        list.head = place;
        list.len += 1;
    }
}
