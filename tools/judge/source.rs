//! What is known of one source: which ports it touched, and whether it is convicted. In few bytes, because an
//! attacker chooses how many sources there are.

use std::time::Duration;

use psentry_records::{Kind, Probe, Proto, Timestamp};

/// One port that a source touched, once or often.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Contact {
    /// The port, where the protocol has ports.
    pub port: Option<u16>,
    /// Its protocol.
    pub proto: Proto,
    /// Whether a handshake was completed at least once.
    pub handshake: bool,
    /// The first touch.
    pub first: Timestamp,
    /// The last one.
    pub last: Timestamp,
    /// How many touches.
    pub count: u32,
    kinds: u16,
}

const KINDS: [Kind; 10] = [
    Kind::Connect,
    Kind::Syn,
    Kind::Fin,
    Kind::Null,
    Kind::Xmas,
    Kind::Ack,
    Kind::Maimon,
    Kind::Window,
    Kind::Udp,
    Kind::Other,
];

/// A conviction that still stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conviction {
    /// Until when there is no need to say it again.
    pub until: Timestamp,
    /// Whether handshakes alone convicted.
    pub proven: bool,
}

/// Everything known of one source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Source {
    /// The ports it touched within the window.
    pub contacts: Vec<Contact>,
    /// How often it was convicted.
    pub offences: u32,
    /// The conviction that stands.
    pub convicted: Option<Conviction>,
}

impl Source {
    /// Takes note of a probe. Contacts that lie further than `window` before the newest are forgotten, so a record
    /// that comes late counts as if it had come in time, or not at all. More than `most` contacts are not kept; to
    /// a handshake, an unproven contact gives way, so that a flood of forged ports hides no proof.
    pub fn note(&mut self, probe: &Probe, now: Timestamp, window: Duration, most: usize) {
        let (port, proto) = (probe.common.dest_port, probe.common.proto.unwrap_or(Proto::Other));
        let kind = 1 << (probe.body.kind as u16);
        let room = self.contacts.len() < most;
        match self.contacts.iter_mut().find(|contact| contact.port == port && contact.proto == proto) {
            Some(contact) => {
                contact.first = contact.first.min(now);
                contact.last = contact.last.max(now);
                contact.count = contact.count.saturating_add(probe.body.count);
                contact.handshake |= probe.body.handshake;
                contact.kinds |= kind;
            }
            None => {
                let handshake = probe.body.handshake;
                let count = probe.body.count;
                let contact = Contact { port, proto, handshake, first: now, last: now, count, kinds: kind };
                if room {
                    self.contacts.push(contact);
                } else if handshake && let Some(weak) = self.contacts.iter_mut().find(|c| !c.handshake) {
                    *weak = contact;
                }
            }
        }
        let newest = self.contacts.iter().map(|contact| contact.last).max().unwrap_or(now);
        self.contacts.retain(|contact| newest.since(contact.last) <= window);
    }

    /// Ends a conviction whose time is over, and forgets what led to it.
    pub fn release(&mut self, now: Timestamp) {
        if self.convicted.is_some_and(|conviction| now >= conviction.until) {
            self.convicted = None;
            self.contacts.clear();
        }
    }

    /// How many different ports it touched; and how many of them with a completed handshake.
    #[must_use]
    pub fn distinct(&self) -> (usize, usize) {
        (self.contacts.len(), self.contacts.iter().filter(|contact| contact.handshake).count())
    }

    /// How many probes the contacts stand for.
    #[must_use]
    pub fn probes(&self) -> u64 {
        self.contacts.iter().map(|contact| u64::from(contact.count)).sum()
    }

    /// The kinds of probe, each once.
    #[must_use]
    pub fn kinds(&self) -> Vec<Kind> {
        let seen = self.contacts.iter().fold(0, |kinds, contact| kinds | contact.kinds);
        KINDS.into_iter().filter(|&kind| seen & (1 << (kind as u16)) != 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_bit_of_its_own() {
        let bits: std::collections::BTreeSet<u16> = KINDS.iter().map(|&kind| kind as u16).collect();
        assert_eq!(bits.len(), KINDS.len());
        assert!(bits.iter().all(|&bit| bit < 16));
    }
}
