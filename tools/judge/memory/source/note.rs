//! What becomes of a source's contacts when one more comes: which are kept, and which give way.

use std::time::Duration;

use psentry_records::Timestamp;

use super::{INLINE, KNOWN, Source};
use crate::evidence::Classes;
use crate::guard::JUMP;
use crate::memory::Contact;
use crate::sighting::Sighting;

/// How much of one source is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// How many contacts.
    pub most: usize,
    /// How long a contact is kept.
    pub keep: Duration,
    /// How long it counts as fresh.
    pub window: Duration,
}

impl Source {
    /// Takes note of a touch: whether there is something new to weigh. Contacts that lie further than `keep` before
    /// the newest are forgotten, so a record that comes late counts as if it had come in time, or not at all. More
    /// than `most` are not kept: one outside the window gives way, or to a handshake one without, so that a flood of
    /// forged ports hides no proof, neither new nor old.
    pub fn note(&mut self, seen: &Sighting, now: Timestamp, classes: Classes, room: Room) -> bool {
        self.packets = self.packets.saturating_add(u16::try_from(seen.count).unwrap_or(u16::MAX));
        if seen.handshake {
            self.marks |= KNOWN;
        }
        if let Some(contact) = self.contacts_mut().find(|contact| contact.is(seen)) {
            let stale = room.window < now.since(contact.last());
            return contact.touch(seen, now, classes) || stale;
        }
        let newest = self.newest().map_or(now, |newest| newest.max(now));
        let fresh = |contact: &Contact, span| newest.since(contact.last()) <= span;
        if self.contacts().any(|contact| !fresh(contact, room.keep)) {
            let kept: Vec<Contact> =
                self.contacts().filter(|contact| fresh(contact, room.keep)).copied().collect();
            self.set(&kept);
            if kept.is_empty() && self.conviction().is_none() {
                self.packets = u16::try_from(seen.count).unwrap_or(u16::MAX);
                self.level = 0;
            }
        }
        if newest.since(now) > room.keep {
            return false;
        }
        let contact = Contact::new(seen, now, classes);
        if usize::from(self.held) + self.spilled() < room.most.max(INLINE) {
            self.push(contact);
            return true;
        }
        // What a slow scan proves gives way last, and only to other proof.
        let rank = |held: &Contact| {
            let lasting = held.handshake() && held.classes().last_long();
            match (fresh(held, room.window), held.handshake()) {
                (false, _) if !lasting => Some(0),
                (true, false) if seen.handshake => Some(1),
                (false, _) if seen.handshake => Some(2),
                _ => None,
            }
        };
        let ranked = self.contacts_mut().filter_map(|held| Some((rank(held)?, held)));
        if let Some((_, least)) = ranked.min_by_key(|(rank, held)| (*rank, held.last())) {
            *least = contact;
        }
        true
    }

    fn push(&mut self, contact: Contact) {
        match self.inline.get_mut(usize::from(self.held)) {
            Some(free) => {
                *free = contact;
                self.held += 1;
            }
            None => {
                let more = self.more.get_or_insert_default();
                // Doubling would waste half.
                if more.len() == more.capacity() {
                    more.reserve_exact(more.len().clamp(2, 8));
                }
                more.push(contact);
            }
        }
    }

    /// Replaces all contacts.
    pub(crate) fn set(&mut self, contacts: &[Contact]) {
        self.held = 0;
        self.more = None;
        contacts.iter().for_each(|&contact| self.push(contact));
    }

    /// Forgets what lies far ahead of the stream, which was a wrong clock: it must neither make everything since look
    /// stale, nor keep a source convicted.
    pub fn set_right(&mut self, stream: Timestamp) {
        let ahead = |contact: &Contact| contact.last().since(stream) > JUMP;
        let Some(newest) = self.newest().filter(|newest| newest.since(stream) > JUMP) else { return };
        let kept: Vec<Contact> = self.contacts().filter(|contact| !ahead(contact)).copied().collect();
        if self.until() >= newest {
            self.acquit();
            self.until = stream.micros();
        }
        self.set(&kept);
    }
}
