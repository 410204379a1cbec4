//! One message of NFLOG: why a packet was logged, its number, and its headers. The kernel wrote the message, a stranger
//! the packet within.

use netlink_packet_core::NlasIterator;
use psentry_packet::{Packet, ParseError};
use psentry_records::Class;

/// Why a packet was logged, as the prefix that `ruleset.rs` gives it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It is evidence: a probe or a stray, or something that a flag asks for.
    Evidence(Judgement),
    /// A SYN to a decoy: a handshake may follow.
    DecoySyn,
    /// An ACK to a decoy: the handshake is complete.
    DecoyAck,
    /// A SYN that was dropped at a veiled port: it may come again.
    VeilFirst,
    /// A SYN that the veil let through.
    VeilPassed,
}

/// What the rules took a packet for, and what they did about its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Judgement {
    /// `None`: it went to no port, as a ping does.
    pub(crate) class: Option<Class>,
    /// For how many seconds the source is in quarantine because of this packet; `None`: it is not.
    pub(crate) quarantine: Option<u32>,
    /// Whether it was dropped at a veiled port.
    pub(crate) veiled: bool,
    /// Whether it went to a port that is hidden from its source.
    pub(crate) hidden: bool,
}

/// A packet that was logged.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LoggedPacket {
    /// The kernel numbers packets from 0; a gap is a packet that it had to drop.
    pub(crate) sequence: Option<u32>,
    pub(crate) reason: Reason,
    /// What its headers say, or why they cannot be read.
    pub(crate) packet: Result<Packet, ParseError>,
}

/// The header of nfnetlink (linux/netfilter/nfnetlink.h).
const NFNETLINK_HEADER: usize = 4;

/// Attributes of NFLOG's packets (linux/netfilter/nfnetlink_log.h).
const PAYLOAD: u16 = 9;
const PREFIX: u16 = 10;
const SEQUENCE: u16 = 12;

/// Reads the message of a packet; what is missing counts as empty.
pub(crate) fn parse(message: &[u8]) -> LoggedPacket {
    let (mut sequence, mut reason, mut packet) = (None, reason_of(&[]), Err(ParseError::Truncated));
    let attributes = message.get(NFNETLINK_HEADER..).unwrap_or_default();
    for attribute in NlasIterator::new(attributes).map_while(Result::ok) {
        let value = attribute.value();
        match attribute.kind() {
            PAYLOAD => packet = Packet::parse(value),
            PREFIX => reason = reason_of(value),
            SEQUENCE => sequence = value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)),
            _ => {}
        }
    }
    LoggedPacket { sequence, reason, packet }
}

fn reason_of(prefix: &[u8]) -> Reason {
    let prefix = prefix.strip_suffix(b"\0").unwrap_or(prefix);
    let mut words = prefix.split(|byte| *byte == b' ').map(|word| str::from_utf8(word).unwrap_or_default());
    let word = words.next();
    let class = match word {
        Some("decoy_syn") => return Reason::DecoySyn,
        Some("decoy_ack") => return Reason::DecoyAck,
        Some("veil_first") => return Reason::VeilFirst,
        Some("veil_passed") => return Reason::VeilPassed,
        Some("probe" | "hidden") => Some(Class::Probe),
        Some("stray") => Some(Class::Stray),
        _ => None,
    };
    let quarantine = words.next().and_then(|seconds| seconds.parse().ok());
    Reason::Evidence(Judgement { class, quarantine, veiled: false, hidden: word == Some("hidden") })
}

/// How many packets the kernel dropped, by the gaps between the numbers of those that came.
#[derive(Debug, Default)]
pub(crate) struct SequenceGaps {
    next: u32,
    dropped: u64,
}

impl SequenceGaps {
    /// Takes the number of the next packet that came. The first is 0.
    pub(crate) fn add(&mut self, sequence: u32) {
        self.dropped = self.dropped.saturating_add(sequence.wrapping_sub(self.next).into());
        self.next = sequence.wrapping_add(1);
    }

    /// How many packets are missing so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
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
        let logged = parse(&message(&[(10, b"decoy_syn\0"), (12, &[0, 0, 1, 2]), (99, b"?"), (9, &packet)]));
        assert_eq!((logged.sequence, logged.reason), (Some(258), Reason::DecoySyn));
        let packet = logged.packet.unwrap();
        assert_eq!((packet.kind(), packet.ports()), (Kind::Fin, Some((40000, 23))));
        assert_eq!(parse(&[]).packet, Err(ParseError::Truncated));
    }

    #[test]
    fn the_prefix_says_class_and_quarantine() {
        for (prefix, class, quarantine) in [
            (&b"probe 30\0"[..], Some(Class::Probe), Some(30)),
            (b"probe\0", Some(Class::Probe), None),
            (b"hidden 30\0", Some(Class::Probe), Some(30)),
            (b"stray 3600", Some(Class::Stray), Some(3600)),
            (b"icmp\0", None, None),
            (b"", None, None),
            (b"\xff x", None, None),
        ] {
            let hidden = prefix.starts_with(b"hidden");
            let want = Judgement { class, quarantine, veiled: false, hidden };
            assert_eq!(reason_of(prefix), Reason::Evidence(want), "{prefix:?}");
        }
        assert_eq!(reason_of(b"decoy_ack\0"), Reason::DecoyAck);
    }

    #[test]
    fn gaps_are_counted_also_around_the_end() {
        let mut gaps = SequenceGaps::default();
        for sequence in [0, 1, 4, 5] {
            gaps.add(sequence);
        }
        assert_eq!(gaps.dropped(), 2);
        let mut gaps = SequenceGaps { next: u32::MAX, dropped: 0 };
        gaps.add(u32::MAX);
        gaps.add(1);
        assert_eq!(gaps.dropped(), 1);
    }

    proptest! {
        #[test]
        fn no_message_is_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            parse(&bytes);
        }
    }
}
