//! The header of TCP: the flags, the kind of probe that they make, and which options there are.

use std::fmt;

use etherparse::{TcpHeaderSlice, TcpOptionElement};
use psentry_records::Kind;

/// What a TCP header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// From which port.
    pub source_port: u16,
    /// To which port.
    pub destination_port: u16,
    /// The flags.
    pub flags: Flags,
    /// The window, unscaled.
    pub window: u16,
    /// Which options there are.
    pub options: Options,
}

/// The flags of a TCP header.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flags(u8);

/// Which options there are, as coarsely as a scanner's handwriting asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Options {
    /// None at all.
    None,
    /// The maximum segment size alone.
    MssAlone,
    /// Others too, or what cannot be read.
    More,
}

/// Names in the order in which people say them.
const NAMES: [(u8, &str); 8] = [
    (Flags::SYN.0, "syn"),
    (Flags::FIN.0, "fin"),
    (Flags::RST.0, "rst"),
    (Flags::PSH.0, "psh"),
    (Flags::ACK.0, "ack"),
    (Flags::URG.0, "urg"),
    (0x40, "ece"),
    (0x80, "cwr"),
];

/// The flags that say what a packet wants. The others belong to congestion control: an ordinary SYN may bear them.
const SPEAKING: u8 = 0x3f;

impl Flags {
    /// No more data.
    pub const FIN: Flags = Flags(0x01);
    /// A connection is to begin.
    pub const SYN: Flags = Flags(0x02);
    /// A connection is to be broken off.
    pub const RST: Flags = Flags(0x04);
    /// To be handed on at once.
    pub const PSH: Flags = Flags(0x08);
    /// Data is acknowledged.
    pub const ACK: Flags = Flags(0x10);
    /// Some of it is urgent.
    pub const URG: Flags = Flags(0x20);

    /// As they stand in the header.
    #[must_use]
    pub fn from_bits(bits: u8) -> Self {
        Flags(bits)
    }

    /// All of `other` are set.
    #[must_use]
    pub fn contain(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// What kind of probe they make. Names are those of nmap's scans.
    #[must_use]
    pub fn kind(self) -> Kind {
        match Flags(self.0 & SPEAKING) {
            Flags::SYN => Kind::Syn,
            Flags::FIN => Kind::Fin,
            Flags::ACK => Kind::Ack,
            Flags(0) => Kind::Null,
            // FIN, PSH and URG.
            Flags(0x29) => Kind::Xmas,
            // FIN and ACK.
            Flags(0x11) => Kind::Maimon,
            _ => Kind::Other,
        }
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = NAMES.iter().filter(|(bit, _)| self.0 & bit != 0).map(|(_, name)| *name);
        for (at, name) in set.enumerate() {
            write!(f, "{}{name}", if at == 0 { "" } else { "+" })?;
        }
        if self.0 == 0 { f.write_str("none") } else { Ok(()) }
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Tcp {
    pub(crate) fn read(header: &TcpHeaderSlice<'_>) -> Self {
        let bits = [
            header.fin(),
            header.syn(),
            header.rst(),
            header.psh(),
            header.ack(),
            header.urg(),
            header.ece(),
            header.cwr(),
        ];
        Tcp {
            source_port: header.source_port(),
            destination_port: header.destination_port(),
            flags: Flags(bits.iter().rev().fold(0, |all, &set| all << 1 | u8::from(set))),
            window: header.window_size(),
            options: Options::read(header),
        }
    }
}

impl Options {
    fn read(header: &TcpHeaderSlice<'_>) -> Self {
        let mut seen = Options::None;
        for option in header.options_iterator() {
            match option {
                Ok(TcpOptionElement::Noop) => {}
                Ok(TcpOptionElement::MaximumSegmentSize(_)) => seen = Options::MssAlone,
                Ok(_) | Err(_) => return Options::More,
            }
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scan_of_nmap_has_its_kind() {
        for (bits, kind, name) in [
            (0x02, Kind::Syn, "syn"),
            (0xc2, Kind::Syn, "syn+ece+cwr"), // an ordinary SYN that offers ECN
            (0x01, Kind::Fin, "fin"),
            (0x00, Kind::Null, "none"),
            (0x29, Kind::Xmas, "fin+psh+urg"),
            (0x10, Kind::Ack, "ack"),
            (0x11, Kind::Maimon, "fin+ack"),
            (0x03, Kind::Other, "syn+fin"),
            (0x18, Kind::Other, "psh+ack"),
            (0x12, Kind::Other, "syn+ack"),
            (0x04, Kind::Other, "rst"),
            (0x3f, Kind::Other, "syn+fin+rst+psh+ack+urg"),
        ] {
            let flags = Flags::from_bits(bits);
            assert_eq!((flags.kind(), flags.to_string().as_str()), (kind, name), "{bits:#x}");
        }
        assert!(Flags::from_bits(0x12).contain(Flags::ACK) && !Flags::from_bits(0x02).contain(Flags::ACK));
    }
}
