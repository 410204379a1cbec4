//! Scanners that build their SYN by hand, told by the fields that an operating system's own stack fills otherwise.
//!
//! | | TTL at the start | window | options | more |
//! |---|---|---|---|---|
//! | masscan | 255 | 1024 | none | |
//! | zmap | 255 | 65535 | none | identification 54321 |
//! | nmap `-sS` | 37 to 59 | 1024 | segment size alone | may be fragmented |
//! | any other, such as hping3 | | | none, or segment size alone | may be fragmented |
//! | Linux, and nmap `-sT` | 64 | 64240 | five | |

use std::fmt;

use psentry_records::Kind;

use crate::packet::{Packet, Transport};
use crate::tcp::Options;

/// Whose handwriting a SYN bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signature {
    /// masscan's.
    Masscan,
    /// zmap's.
    Zmap,
    /// nmap's half-open scan's.
    Nmap,
    /// That of some program that builds its packets itself.
    Raw,
}

/// Most systems' packets start with a TTL of 64, and none gains hops on its way.
const COMMON_TTL: u8 = 64;

/// The window of masscan and nmap.
const SMALL_WINDOW: u16 = 1024;

/// The identification that zmap gives all of its packets.
const ZMAP_ID: u16 = 54321;

pub(crate) fn of(packet: &Packet) -> Option<Signature> {
    let Transport::Tcp(tcp) = &packet.transport else { return None };
    if tcp.flags.kind() != Kind::Syn {
        return None;
    }
    // IPv6 has no such flag; there the options alone must do.
    let may_be_fragmented = packet.dont_fragment != Some(true);
    match tcp.options {
        Options::None if packet.id == Some(ZMAP_ID) && tcp.window == u16::MAX => Some(Signature::Zmap),
        Options::None if packet.ttl > COMMON_TTL && tcp.window == SMALL_WINDOW => Some(Signature::Masscan),
        Options::None => Some(Signature::Raw),
        Options::MssAlone if may_be_fragmented && tcp.window == SMALL_WINDOW => Some(Signature::Nmap),
        Options::MssAlone if may_be_fragmented => Some(Signature::Raw),
        Options::MssAlone | Options::More => None,
    }
}

impl Signature {
    /// The name in a record.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Signature::Masscan => "masscan",
            Signature::Zmap => "zmap",
            Signature::Nmap => "nmap",
            Signature::Raw => "raw",
        }
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
