//! One port that a source touched, once or often, in 24 bytes: an attacker chooses how many there are.

use std::time::Duration;

use psentry_records::{Kind, Proto, Timestamp};
use serde::{Deserialize, Serialize};

use crate::evidence::Classes;
use crate::observation::Observation;

/// Kinds by the place of their bit.
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

/// Protocols by their number in the low three bits of `flags`, which state files have, too.
const PROTOS: [Proto; 7] =
    [Proto::Tcp, Proto::Udp, Proto::Icmp, Proto::Icmpv6, Proto::Sctp, Proto::Other, Proto::Igmp];

const PROTO: u8 = 0b0000_0111;
const HAS_PORT: u8 = 0b0000_1000;
const HANDSHAKE: u8 = 0b0001_0000;
const SIGNATURE: u8 = 0b0010_0000;
/// The handshake was not by SYN cookie, at least once.
const CERTAIN: u8 = 0b0100_0000;
/// Each touch was dropped at a veiled port.
const VEILED: u8 = 0b1000_0000;

/// One port, and how it was touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    /// The first touch, in microseconds since 1970.
    first: i64,
    /// From the first touch to the last, in microseconds; six bytes are nine years.
    span: [u8; 6],
    port: u16,
    count: u32,
    /// Kinds in the low ten bits, classes in the upper six.
    kinds_and_classes: u16,
    /// On which machine, by a hash of its name.
    host: u8,
    flags: u8,
}

/// The lowest bit of the classes in `kinds_and_classes`.
const CLASSES: u32 = 10;

/// A contact as the state file has it: first, span, port, count, kinds_and_classes, host, flags.
#[derive(Serialize, Deserialize)]
pub(crate) struct ContactEntry(i64, u64, u16, u32, u16, u8, u8);

fn bit(kind: Kind) -> u16 {
    KINDS.iter().position(|&known| known == kind).map_or(0, |at| 1 << at)
}

fn number(proto: Proto) -> u8 {
    PROTOS.iter().zip(0..).find(|&(&known, _)| known == proto).map_or(5, |(_, number)| number)
}

/// The port. A transport that has only a number has no port, and so its number, and one, stands in its place.
fn port(seen: &Observation) -> u16 {
    match (seen.port, seen.proto) {
        (Some(port), _) => port,
        (None, Proto::Number(number)) => u16::from(number) + 1,
        (None, _) => 0,
    }
}

impl Contact {
    /// The first touch of a port.
    #[must_use]
    pub fn new(seen: &Observation, now: Timestamp, classes: Classes) -> Self {
        let mut contact = Contact {
            first: now.micros(),
            span: [0; 6],
            port: port(seen),
            count: 0,
            kinds_and_classes: 0,
            host: seen.host,
            flags: number(seen.proto) | if seen.port.is_some() { HAS_PORT } else { 0 } | VEILED,
        };
        contact.touch(seen, now, classes);
        contact
    }

    /// One more touch of it; whether it weighs more for it. What a handshake proved is neither freshened, strengthened nor
    /// counted up by packets without one, because anybody could forge these.
    pub fn touch(&mut self, seen: &Observation, now: Timestamp, classes: Classes) -> bool {
        self.kinds_and_classes |= bit(seen.kind);
        if self.handshake() && !seen.handshake {
            return false;
        }
        let before = (self.flags, self.classes());
        let mut last = self.last().micros().max(now.micros());
        if seen.handshake && !self.handshake() {
            // All before this could be forged: none of it is to weigh with what the handshake proves, or to date it.
            self.kinds_and_classes &= (1 << CLASSES) - 1;
            self.flags &= !SIGNATURE;
            self.count = 0;
            last = now.micros();
        }
        self.count = self.count.saturating_add(seen.count);
        self.first = self.first.min(now.micros());
        let [bytes @ .., _, _] = last.saturating_sub(self.first).clamp(0, (1 << 48) - 1).to_le_bytes();
        self.span = bytes;
        self.kinds_and_classes |= u16::from(classes.bits()) << CLASSES;
        if seen.handshake {
            self.flags |= if seen.cookie { HANDSHAKE } else { HANDSHAKE | CERTAIN };
        }
        if seen.signature {
            self.flags |= SIGNATURE;
        }
        if !seen.veiled {
            self.flags &= !VEILED;
        }
        before != (self.flags, self.classes())
    }

    /// Whether that is a touch of this port, on the same machine.
    #[must_use]
    pub fn matches(&self, seen: &Observation) -> bool {
        self.port == port(seen)
            && self.host == seen.host
            && self.flags & (PROTO | HAS_PORT)
                == number(seen.proto) | if seen.port.is_some() { HAS_PORT } else { 0 }
    }

    /// The time of the first touch that its weight rests on.
    #[must_use]
    pub fn first(&self) -> Timestamp {
        Timestamp::from_micros(self.first).unwrap_or(Timestamp::MAX)
    }

    /// The time of the last touch that its weight rests on.
    #[must_use]
    pub fn last(&self) -> Timestamp {
        let [a, b, c, d, e, f] = self.span;
        self.first().plus(Duration::from_micros(u64::from_le_bytes([a, b, c, d, e, f, 0, 0])))
    }

    /// The same, so much earlier.
    #[must_use]
    pub fn earlier(&self, by: Duration) -> Self {
        let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        Contact { first: self.first.saturating_sub(by).max(0), ..*self }
    }

    /// The port, where the protocol has ports.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        (self.flags & HAS_PORT != 0).then_some(self.port)
    }

    /// The protocol by which it was touched.
    #[must_use]
    pub fn proto(&self) -> Proto {
        match PROTOS.get(usize::from(self.flags & PROTO)).copied().unwrap_or(Proto::Other) {
            Proto::Other if self.flags & HAS_PORT == 0 => {
                let number = self.port.checked_sub(1).and_then(|number| u8::try_from(number).ok());
                number.map_or(Proto::Other, Proto::Number)
            }
            proto => proto,
        }
    }

    /// Whether a handshake was completed at least once.
    #[must_use]
    pub fn handshake(&self) -> bool {
        self.flags & HANDSHAKE != 0
    }

    /// Whether one was completed that no SYN cookie answered for.
    #[must_use]
    pub fn certain(&self) -> bool {
        self.flags & CERTAIN != 0
    }

    /// Whether a scanner was recognized by its packet.
    #[must_use]
    pub fn signature(&self) -> bool {
        self.flags & SIGNATURE != 0
    }

    /// Whether each touch was dropped at a veiled port.
    #[must_use]
    pub fn veiled(&self) -> bool {
        self.flags & VEILED != 0
    }

    /// What it is evidence of.
    #[must_use]
    pub fn classes(&self) -> Classes {
        Classes::from_bits((self.kinds_and_classes >> CLASSES).to_le_bytes()[0])
    }

    /// On which machine it was, by a hash of its name.
    #[must_use]
    pub fn host(&self) -> u8 {
        self.host
    }

    /// How many touches its weight rests on; stops at the largest number.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Counts its touches from nothing.
    pub fn restart_count(&mut self) {
        self.count = 0;
    }

    /// The kinds of these contacts, each once.
    pub fn kinds<'a>(contacts: impl Iterator<Item = &'a Contact>) -> Vec<Kind> {
        let seen = contacts.fold(0, |kinds, contact| kinds | contact.kinds_and_classes);
        KINDS.into_iter().filter(|&kind| seen & bit(kind) != 0).collect()
    }

    pub(crate) fn entry(&self) -> ContactEntry {
        let [a, b, c, d, e, f] = self.span;
        let span = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
        ContactEntry(self.first, span, self.port, self.count, self.kinds_and_classes, self.host, self.flags)
    }

    pub(crate) fn from_entry(entry: &ContactEntry) -> Self {
        // A file may hold any numbers; those that would panic or wrap are cut.
        let &ContactEntry(first, span, port, count, kinds_and_classes, host, flags) = entry;
        let [span @ .., _, _] = span.min((1 << 48) - 1).to_le_bytes();
        let first = first.clamp(0, Timestamp::MAX.micros());
        Contact { first, span, port, count, kinds_and_classes, host, flags }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_small_as_it_says() {
        assert_eq!(size_of::<Contact>(), 24);
    }

    #[test]
    fn every_kind_and_protocol_has_a_place_of_its_own() {
        let kinds: std::collections::BTreeSet<u16> = KINDS.into_iter().map(bit).collect();
        assert!(kinds.len() == KINDS.len() && !kinds.contains(&0));
        for (proto, want) in PROTOS.into_iter().zip(0..) {
            assert_eq!(number(proto), want);
        }
    }

    #[test]
    fn a_transport_without_a_name_is_a_contact_of_its_own() {
        let seen = |proto, port| Observation {
            at: Timestamp::from_secs(1_800_000_000).unwrap(),
            src: [203, 0, 113, 7].into(),
            src_port: None,
            host: 0,
            port,
            proto,
            kind: Kind::Other,
            handshake: false,
            cookie: false,
            signature: false,
            closed: true,
            class: None,
            veiled: false,
            count: 1,
        };
        let all: Vec<_> =
            [Proto::Number(0), Proto::Number(47), Proto::Number(255), Proto::Other, Proto::Sctp]
                .into_iter()
                .flat_map(|proto| [seen(proto, None), seen(proto, Some(48))])
                .collect();
        for one in &all {
            let contact = Contact::new(one, one.at, Classes::default());
            assert_eq!(
                all.iter().filter(|other| contact.matches(other)).count(),
                if one.port.is_some() && matches!(one.proto, Proto::Number(_) | Proto::Other) {
                    4
                } else {
                    1
                }
            );
            if one.port.is_none() {
                assert_eq!(contact.proto(), one.proto);
            }
        }
    }
}
