//! Fingerprints of scanners that build their own SYN: they fill some header fields otherwise than an operating system
//! does.
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

use crate::packet::Packet;
use crate::tcp::TcpOptions;
use crate::transport::Transport;

/// Which scanner writes a SYN like this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signature {
    /// masscan.
    Masscan,
    /// zmap.
    Zmap,
    /// nmap's half-open scan (`-sS`).
    Nmap,
    /// Another program that builds packets itself and sends them by a raw socket, such as hping3.
    Raw,
}

/// The TTL with which most systems send. It only decreases on the way, so a higher one was set by another sender.
const COMMON_TTL: u8 = 64;

/// The window that masscan and nmap set, in bytes. Systems begin with some tens of thousands.
const SCANNER_WINDOW: u16 = 1024;

/// The IPv4 identification of all packets of zmap.
const ZMAP_IP_ID: u16 = 54321;

impl Packet {
    /// The scanner whose signature a SYN has. It is evidence and no proof: any scanner can imitate another, and a
    /// small device's own network stack may write as a scanner does.
    #[must_use]
    pub fn signature(&self) -> Option<Signature> {
        let Transport::Tcp(tcp) = &self.transport else { return None };
        if tcp.flags.kind() != Kind::Syn {
            return None;
        }
        // IPv6 has no such flag, so there the options alone decide.
        let may_be_fragmented = self.dont_fragment != Some(true);
        match tcp.options {
            TcpOptions::None if self.ip_id == Some(ZMAP_IP_ID) && tcp.window == u16::MAX => {
                Some(Signature::Zmap)
            }
            TcpOptions::None if self.ttl > COMMON_TTL && tcp.window == SCANNER_WINDOW => {
                Some(Signature::Masscan)
            }
            TcpOptions::None => Some(Signature::Raw),
            TcpOptions::MssAlone if may_be_fragmented && tcp.window == SCANNER_WINDOW => {
                Some(Signature::Nmap)
            }
            TcpOptions::MssAlone if may_be_fragmented => Some(Signature::Raw),
            TcpOptions::MssAlone | TcpOptions::More => None,
        }
    }
}

impl Signature {
    /// Its name in records (`probe.signature`).
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
