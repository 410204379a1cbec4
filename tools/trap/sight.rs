//! One packet that the rules logged: why, its number, and what its headers say. The envelope is the kernel's word, the
//! packet within is a stranger's.

use netlink_packet_core::NlasIterator;
use psentry_packet::{Packet, ParseError};

/// Why a packet was logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// It touched what nobody has a reason to touch.
    Probe,
    /// A SYN to a decoy.
    DecoySyn,
    /// An ACK to a decoy.
    DecoyAck,
}

/// A packet that was logged.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sight {
    /// Its number; none is left out unless a packet was lost.
    pub(crate) sequence: Option<u32>,
    /// Why.
    pub(crate) class: Class,
    /// Its headers.
    pub(crate) packet: Result<Packet, ParseError>,
}

/// The header of nfnetlink (linux/netfilter/nfnetlink.h).
const ENVELOPE: usize = 4;

/// Attributes of NFLOG's packets (linux/netfilter/nfnetlink_log.h).
const PAYLOAD: u16 = 9;
const PREFIX: u16 = 10;
const SEQUENCE: u16 = 12;

/// Reads the message of a packet; what is not there counts as empty.
pub(crate) fn read(message: &[u8]) -> Sight {
    let (mut sequence, mut class, mut packet) = (None, Class::Probe, Err(ParseError::Truncated));
    let attributes = message.get(ENVELOPE..).unwrap_or_default();
    for attribute in NlasIterator::new(attributes).map_while(Result::ok) {
        let value = attribute.value();
        match attribute.kind() {
            PAYLOAD => packet = Packet::parse(value),
            PREFIX => class = class_of(value),
            SEQUENCE => sequence = value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)),
            _ => {}
        }
    }
    Sight { sequence, class, packet }
}

fn class_of(prefix: &[u8]) -> Class {
    match prefix.strip_suffix(b"\0").unwrap_or(prefix) {
        b"decoy_syn" => Class::DecoySyn,
        b"decoy_ack" => Class::DecoyAck,
        _ => Class::Probe,
    }
}

/// Packets that were lost, by the gaps between the numbers of those that came.
#[derive(Debug, Default)]
pub(crate) struct Gaps {
    next: u32,
    lost: u64,
}

impl Gaps {
    /// Takes note of a number. The first is 0.
    pub(crate) fn note(&mut self, sequence: u32) {
        self.lost = self.lost.saturating_add(sequence.wrapping_sub(self.next).into());
        self.next = sequence.wrapping_add(1);
    }

    /// How many were lost.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use psentry_records::Kind;

    use super::*;

    /// A message with these attributes.
    fn message(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![2, 0, 0x1b, 0xa1];
        for (kind, value) in attributes {
            bytes.extend(u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(*value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    #[test]
    fn prefix_number_and_packet_are_read() {
        let mut packet = vec![0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 203, 0, 113, 7, 198, 51, 100, 1];
        packet.extend([0x9c, 0x40, 0, 23, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 1, 4, 0, 0, 0, 0, 0]);
        let sight = read(&message(&[(10, b"decoy_syn\0"), (12, &[0, 0, 1, 2]), (99, b"?"), (9, &packet)]));
        assert_eq!((sight.sequence, sight.class), (Some(258), Class::DecoySyn));
        let packet = sight.packet.unwrap();
        assert_eq!((packet.kind(), packet.ports()), (Kind::Fin, Some((40000, 23))));
        assert_eq!(read(&[]).packet, Err(ParseError::Truncated));
    }

    #[test]
    fn gaps_are_counted_also_around_the_end() {
        let mut gaps = Gaps::default();
        for sequence in [0, 1, 4, 5] {
            gaps.note(sequence);
        }
        assert_eq!(gaps.lost(), 2);
        let mut gaps = Gaps { next: u32::MAX, lost: 0 };
        gaps.note(u32::MAX);
        gaps.note(1);
        assert_eq!(gaps.lost(), 1);
    }

    proptest! {
        #[test]
        fn no_message_is_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            read(&bytes);
        }
    }
}
