//! The header of TCP: the flags, the kind of probe that they make, and which options there are.

use std::fmt;

use etherparse::{TcpHeaderSlice, TcpOptionElement};
use psentry_records::Kind;

/// The fields of a TCP header that tell probes and scanners apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpHeader {
    /// The sender's port.
    pub source_port: u16,
    /// The receiver's port.
    pub destination_port: u16,
    /// The eight flags from CWR to FIN.
    pub flags: TcpFlags,
    /// The window, without the scale that an option may set.
    pub window: u16,
    /// Which options it has.
    pub options: TcpOptions,
}

/// The flags of a TCP header (RFC 9293, and RFC 3168 for ECE and CWR).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TcpFlags(u8);

/// Which options a TCP header has, as far as signatures of scanners differ by them. Padding counts for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpOptions {
    /// No option.
    None,
    /// The maximum segment size and no other.
    MssAlone,
    /// Any other, or a malformed one.
    More,
}

/// Names of the flags, in the order in which people name them: syn+ack.
const FLAG_NAMES: [(u8, &str); 8] = [
    (TcpFlags::SYN.0, "syn"),
    (TcpFlags::FIN.0, "fin"),
    (TcpFlags::RST.0, "rst"),
    (TcpFlags::PSH.0, "psh"),
    (TcpFlags::ACK.0, "ack"),
    (TcpFlags::URG.0, "urg"),
    (0x40, "ece"),
    (0x80, "cwr"),
];

/// The flags from FIN to URG, by which kinds of probes differ. The others, ECE and CWR, belong to congestion control:
/// an ordinary SYN may have them.
const CONTROL_FLAGS: u8 = 0x3f;

impl TcpFlags {
    /// The sender has no more data.
    pub const FIN: TcpFlags = TcpFlags(0x01);
    /// Opens a connection.
    pub const SYN: TcpFlags = TcpFlags(0x02);
    /// Aborts a connection.
    pub const RST: TcpFlags = TcpFlags(0x04);
    /// Data is to be delivered at once.
    pub const PSH: TcpFlags = TcpFlags(0x08);
    /// The acknowledgement number is valid.
    pub const ACK: TcpFlags = TcpFlags(0x10);
    /// The urgent pointer is valid.
    pub const URG: TcpFlags = TcpFlags(0x20);

    /// From the byte of the header.
    #[must_use]
    pub fn from_bits(bits: u8) -> Self {
        TcpFlags(bits)
    }

    /// Whether all flags of `other` are set.
    #[must_use]
    pub fn contains(self, other: TcpFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// The kind of probe with these flags, named as nmap names its scans.
    #[must_use]
    pub fn kind(self) -> Kind {
        match TcpFlags(self.0 & CONTROL_FLAGS) {
            TcpFlags::SYN => Kind::Syn,
            TcpFlags::FIN => Kind::Fin,
            TcpFlags::ACK => Kind::Ack,
            TcpFlags(0) => Kind::Null,
            // FIN, PSH and URG.
            TcpFlags(0x29) => Kind::Xmas,
            // FIN and ACK.
            TcpFlags(0x11) => Kind::Maimon,
            _ => Kind::Other,
        }
    }
}

impl fmt::Display for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = FLAG_NAMES.iter().filter(|(bit, _)| self.0 & bit != 0).map(|(_, name)| *name);
        for (at, name) in set.enumerate() {
            write!(f, "{}{name}", if at == 0 { "" } else { "+" })?;
        }
        if self.0 == 0 { f.write_str("none") } else { Ok(()) }
    }
}

impl fmt::Debug for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TcpHeader {
    pub(crate) fn from_slice(header: &TcpHeaderSlice<'_>) -> Self {
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
        TcpHeader {
            source_port: header.source_port(),
            destination_port: header.destination_port(),
            flags: TcpFlags(bits.iter().rev().fold(0, |all, &set| all << 1 | u8::from(set))),
            window: header.window_size(),
            options: TcpOptions::from_slice(header),
        }
    }
}

impl TcpOptions {
    fn from_slice(header: &TcpHeaderSlice<'_>) -> Self {
        let mut seen = TcpOptions::None;
        for option in header.options_iterator() {
            match option {
                Ok(TcpOptionElement::Noop) => {}
                Ok(TcpOptionElement::MaximumSegmentSize(_)) => seen = TcpOptions::MssAlone,
                Ok(_) | Err(_) => return TcpOptions::More,
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
            let flags = TcpFlags::from_bits(bits);
            assert_eq!((flags.kind(), flags.to_string().as_str()), (kind, name), "{bits:#x}");
        }
        assert!(
            TcpFlags::from_bits(0x12).contains(TcpFlags::ACK)
                && !TcpFlags::from_bits(0x02).contains(TcpFlags::ACK)
        );
    }
}
