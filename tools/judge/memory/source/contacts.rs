//! What becomes of a source's contacts when one more comes: which are kept, and which give way.

use std::time::Duration;

use psentry_records::Timestamp;

use super::{INLINE, KNOWN, Source};
use crate::evidence::Classes;
use crate::limits::LATENESS;
use crate::memory::Contact;
use crate::observation::Observation;
use crate::policy::{Families, Retention};

impl Source {
    /// Adds a touch, and says whether there is something new to weigh. Contacts that are further than `keep` before
    /// the newest are forgotten, so a record that comes late counts as if it had come in time, or not at all. More
    /// than `max_contacts` are not kept: one outside the window gives way, or to a handshake one without, so that a flood of
    /// forged ports hides no proof, neither new nor old.
    pub fn add(
        &mut self,
        seen: &Observation,
        now: Timestamp,
        classes: Classes,
        retention: Retention<'_>,
    ) -> bool {
        self.packets = self.packets.saturating_add(u16::try_from(seen.count).unwrap_or(u16::MAX));
        if seen.handshake {
            self.flags |= KNOWN;
        }
        if let Some(contact) = self.contacts_mut().find(|contact| contact.matches(seen)) {
            let stale = retention.window < now.since(contact.last());
            if stale && retention.touches > 0 && (seen.handshake || !contact.handshake()) {
                contact.restart_count();
            }
            let enough = |count| retention.touches > 0 && count >= retention.touches;
            let before = enough(contact.count());
            let weighs_more = contact.touch(seen, now, classes);
            return weighs_more || stale || !before && enough(contact.count());
        }
        let newest = self.newest().map_or(now, |newest| newest.max(now));
        let fresh = |contact: &Contact, span| newest.since(contact.last()) <= span;
        if self.contacts().any(|contact| !fresh(contact, retention.keep)) {
            let kept: Vec<Contact> =
                self.contacts().filter(|contact| fresh(contact, retention.keep)).copied().collect();
            self.set(&kept);
            if kept.is_empty() && self.conviction().is_none() {
                self.packets = u16::try_from(seen.count).unwrap_or(u16::MAX);
                self.level = 0;
            }
        }
        if newest.since(now) > retention.keep {
            return false;
        }
        let contact = Contact::new(seen, now, classes);
        if self.contact_count() < retention.max_contacts.max(INLINE) {
            self.push(contact);
            return true;
        }
        // What a slow scan proves gives way last, and only to other proof; what is one contact with another, first: else the
        // ports of a few families would take all the room.
        let needless = self.needless(retention.families);
        let rank = |held: &Contact| {
            if needless.as_ref() == Some(held) {
                return Some(0);
            }
            let lasting = held.handshake() && held.classes().last_long();
            match (fresh(held, retention.window), held.handshake()) {
                (false, _) if !lasting => Some(1),
                (true, false) if seen.handshake => Some(2),
                (false, _) if seen.handshake => Some(3),
                _ => None,
            }
        };
        let ranked = self.contacts_mut().filter_map(|held| Some((rank(held)?, held)));
        if let Some((_, least)) = ranked.min_by_key(|(rank, held)| (*rank, held.last())) {
            *least = contact;
        }
        true
    }

    /// A contact without a handshake that says nothing that another one of the same identity does not.
    fn needless(&self, families: &Families) -> Option<Contact> {
        let identity = |contact: &Contact| families.identity(contact.port(), contact.proto());
        let says_it = |held: &Contact, other: &Contact| {
            other != held
                && other.host() == held.host()
                && other.last() >= held.last()
                && other.classes().hold(held.classes())
                && identity(other) == identity(held)
        };
        let needless =
            |held: &&Contact| !held.handshake() && self.contacts().any(|other| says_it(held, other));
        self.contacts().find(needless).copied()
    }

    fn push(&mut self, contact: Contact) {
        match self.inline.get_mut(usize::from(self.inline_len)) {
            Some(free) => {
                *free = contact;
                self.inline_len += 1;
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

    /// Keeps these contacts and no others.
    pub(crate) fn set(&mut self, contacts: &[Contact]) {
        self.inline_len = 0;
        self.more = None;
        contacts.iter().for_each(|&contact| self.push(contact));
    }

    /// The clock was set back by `step`: what lies ahead of the stream was dated before, so it happened so much earlier; and
    /// a conviction from then is over, for its end cannot be told, and whoever still gets through is not blocked. What lies
    /// ahead even so is one wrong record, and forgotten: it must not make everything since look stale. Whether a
    /// conviction is over by it, so that there is something new to weigh.
    pub fn set_back(&mut self, stream: Timestamp, step: Duration) -> bool {
        let ahead = |contact: &Contact| contact.last().since(stream) > LATENESS;
        let Some(newest) = self.newest().filter(|newest| newest.since(stream) > LATENESS) else {
            return false;
        };
        let right = |contact: &Contact| if ahead(contact) { contact.earlier(step) } else { *contact };
        let kept: Vec<Contact> = self.contacts().map(right).filter(|contact| !ahead(contact)).collect();
        let convicted = self.conviction().is_some();
        if self.until() >= newest {
            self.release();
            self.until = stream.micros();
        }
        self.set(&kept);
        convicted && self.conviction().is_none()
    }
}
