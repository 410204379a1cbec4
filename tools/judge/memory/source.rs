//! What is known of one source, in 72 bytes beside its address and its place: two contacts within, more in a list of their
//! own. What led to a conviction is forgotten when it is over; how often there was one is not.

mod contacts;

use std::time::Duration;

use psentry_records::Timestamp;

use super::contact::Contact;
use crate::limits::MAX_TRIGGER;

/// How many contacts are kept within the source.
const INLINE: usize = 2;

/// How many contacts any policy may have remembered.
const MAX_CONTACTS: usize = MAX_TRIGGER as usize;

const CONVICTED: u8 = 1;
const PROVEN: u8 = 2;
/// Convicted, but only watched: the level is too low, it is vouched for, or the brake is on.
const WATCH_ONLY: u8 = 4;
/// It completed a handshake, or was convicted by handshakes: it is not pushed out by those who did not.
const KNOWN: u8 = 8;
/// The flags that are the table's: they are no property of the source.
const TABLE_FLAGS: u8 = 0xf0;

/// Everything known of one source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Source {
    inline: [Contact; INLINE],
    #[allow(clippy::box_collection)] // eight bytes instead of twenty-four, for the many that need none
    more: Option<Box<Vec<Contact>>>,
    /// When the conviction ends, or the last one ended, in microseconds.
    until: i64,
    offences: u16,
    /// Packets since it was last at nothing, as psad counts them; stops at 65,535.
    packets: u16,
    /// How many contacts are within it.
    inline_len: u8,
    level: u8,
    /// The table's: how many bits of the address count.
    pub(super) len: u8,
    pub(super) flags: u8,
}

/// A conviction, from its verdict until its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conviction {
    /// Whether handshakes alone convicted it, which nobody can forge.
    pub proven: bool,
    /// Whether it is only watched: its level is too low, it is vouched for, or the brake is on.
    pub watch_only: bool,
}

impl Conviction {
    /// Whether it counts as an offence, for which the next block lasts longer.
    #[must_use]
    pub fn is_offence(self) -> bool {
        self.proven && !self.watch_only
    }
}

impl Source {
    /// A new one in its place in the table.
    pub(super) fn placed(len: u8, flags: u8) -> Self {
        Source { len, flags, ..Source::default() }
    }

    /// The ports it touched and that are remembered, oldest first as a rule.
    pub fn contacts(&self) -> impl Iterator<Item = &Contact> {
        self.inline
            .iter()
            .take(usize::from(self.inline_len))
            .chain(self.more.iter().flat_map(|more| more.iter()))
    }

    fn contacts_mut(&mut self) -> impl Iterator<Item = &mut Contact> {
        let len = usize::from(self.inline_len);
        self.inline.iter_mut().take(len).chain(self.more.iter_mut().flat_map(|more| more.iter_mut()))
    }

    /// How many contacts are remembered.
    #[must_use]
    pub fn contact_count(&self) -> usize {
        usize::from(self.inline_len) + self.spilled()
    }

    /// How many contacts take room beside it.
    #[must_use]
    pub fn spilled(&self) -> usize {
        self.more.as_ref().map_or(0, |more| more.len())
    }

    /// The time of the newest touch.
    #[must_use]
    pub fn newest(&self) -> Option<Timestamp> {
        self.contacts().map(Contact::last).max()
    }

    /// Ends a conviction whose time is over, and forgets what led to it. What was proven by handshakes beside a
    /// conviction that could be forged stays: else two forged packets a minute would wash it out.
    pub fn expire(&mut self, now: Timestamp) {
        if let Some(conviction) = self.conviction()
            && now >= self.until()
        {
            let proof = |contact: &&Contact| !conviction.proven && contact.handshake();
            let kept: Vec<Contact> = self.contacts().filter(proof).copied().collect();
            self.release();
            self.set(&kept);
        }
    }

    /// Ends a conviction, and forgets what led to it.
    pub fn release(&mut self) {
        self.flags &= KNOWN | TABLE_FLAGS;
        self.set(&[]);
        self.packets = 0;
        self.level = 0;
    }

    /// Forgives one offence for every `span` that passed since the last one ended.
    pub fn forgive(&mut self, now: Timestamp, span: Duration) {
        if self.offences == 0 || self.conviction().is_some() {
            return;
        }
        // `until` moves along with what was forgiven, so that the rest of a span counts towards the next offence.
        let spans = now.since(self.until()).as_micros().checked_div(span.as_micros()).unwrap_or(0);
        let spans = u32::try_from(spans).unwrap_or(u32::MAX);
        self.offences = self.offences.saturating_sub(u16::try_from(spans).unwrap_or(u16::MAX));
        self.until = self.until().plus(span.saturating_mul(spans)).micros();
    }

    /// Convicts it. What is only watched is no offence.
    pub fn convict(&mut self, until: Timestamp, conviction: Conviction) {
        self.until = until.micros();
        self.flags |= CONVICTED;
        self.flags &= !(PROVEN | WATCH_ONLY);
        if conviction.watch_only {
            self.flags |= WATCH_ONLY;
        }
        if conviction.proven {
            self.flags |= PROVEN | KNOWN;
            self.offences = self.offences.saturating_add(u16::from(conviction.is_offence()));
        }
    }

    /// The conviction that is in force; it is also after its end, until [`Source::expire`] sees that.
    #[must_use]
    pub fn conviction(&self) -> Option<Conviction> {
        (self.flags & CONVICTED != 0).then_some(Conviction {
            proven: self.flags & PROVEN != 0,
            watch_only: self.flags & WATCH_ONLY != 0,
        })
    }

    /// When the conviction ends, or the last one ended.
    #[must_use]
    pub fn until(&self) -> Timestamp {
        Timestamp::from_micros(self.until).unwrap_or(Timestamp::MAX)
    }

    /// A conviction that was only watched is blocked from now on; by handshakes, it is an offence.
    pub fn enforce(&mut self, until: Timestamp) {
        let was_no_offence = self.flags & (WATCH_ONLY | PROVEN) == WATCH_ONLY | PROVEN;
        self.offences = self.offences.saturating_add(u16::from(was_no_offence));
        self.flags &= !WATCH_ONLY;
        self.until = until.micros();
    }

    /// How often it was convicted by handshakes, and not only watched, less what was forgiven.
    #[must_use]
    pub fn offences(&self) -> u32 {
        self.offences.into()
    }

    /// How many packets it sent since it was last at nothing; 65,535 means as many or more.
    #[must_use]
    pub fn packets(&self) -> u32 {
        self.packets.into()
    }

    /// The level that was last reported.
    #[must_use]
    pub fn level(&self) -> u8 {
        self.level
    }

    /// Sets the level that is reported.
    pub fn set_level(&mut self, level: u8) {
        self.level = level;
    }

    /// Whether it ever completed a handshake: then those who did not cannot push it out of memory.
    #[must_use]
    pub fn known(&self) -> bool {
        self.flags & KNOWN != 0
    }

    /// Whether handshakes convicted it, and that is not forgiven yet.
    pub(super) fn offender(&self) -> bool {
        self.offences > 0 || self.conviction().is_some_and(|conviction| conviction.proven)
    }

    /// The numbers beside the contacts, for the state file: until, offences, packets, level, flags.
    pub(crate) fn numbers(&self) -> (i64, u16, u16, u8, u8) {
        (self.until, self.offences, self.packets, self.level, self.flags & !TABLE_FLAGS)
    }

    pub(crate) fn from_numbers(numbers: (i64, u16, u16, u8, u8), contacts: &[Contact]) -> Self {
        // A file may hold any numbers; those that would break a bound are cut.
        let (until, offences, packets, level, flags) = numbers;
        let until = until.clamp(0, Timestamp::MAX.micros());
        let flags = flags & !TABLE_FLAGS;
        let mut source = Source { until, offences, packets, level, flags, ..Source::default() };
        source.set(contacts.get(..MAX_CONTACTS).unwrap_or(contacts));
        source
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_small_as_it_says() {
        assert_eq!(size_of::<Source>(), 72);
    }
}
