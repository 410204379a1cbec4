//! What the kernel does with a filter (`inet_diag_bc_run`), for tests.

use std::net::{IpAddr, Ipv4Addr};

use super::JUMP;

/// What a filter sees of a socket.
pub(super) struct Socket {
    pub(super) local: u16,
    pub(super) remote: u16,
    pub(super) peer: IpAddr,
}

impl Default for Socket {
    fn default() -> Self {
        Socket { local: 0, remote: 0, peer: Ipv4Addr::UNSPECIFIED.into() }
    }
}

/// Whether the filter picks it.
pub(super) fn picks(filter: &[u8], socket: &Socket) -> bool {
    let (mut at, end) = (0, filter.len());
    while at < end {
        let number = |at: usize| u16::from_ne_bytes([filter[at], filter[at + 1]]);
        let (code, yes, no) = (filter[at], usize::from(filter[at + 1]), usize::from(number(at + 2)));
        let holds = match code {
            JUMP => false,
            2 => socket.local >= number(at + 6),
            3 => socket.local <= number(at + 6),
            4 => socket.remote >= number(at + 6),
            5 => socket.remote <= number(at + 6),
            8 => lies_within(&filter[at + 4..at + yes], socket.peer),
            _ => panic!("{code}"),
        };
        at += if holds { yes } else { no };
    }
    at == end
}

/// Whether an address meets an `inet_diag_hostcond` of whatever port.
fn lies_within(condition: &[u8], addr: IpAddr) -> bool {
    let (family, bytes) = match addr {
        IpAddr::V4(v4) => (2, v4.octets().to_vec()),
        IpAddr::V6(v6) => (10, v6.octets().to_vec()),
    };
    let (prefix, bits) = (&condition[8..], usize::from(condition[1]));
    let bit = |bytes: &[u8], n: usize| bytes[n / 8] >> (7 - n % 8) & 1;
    condition[4..8] == (-1i32).to_ne_bytes()
        && condition[0] == family
        && (0..bits).all(|n| bit(prefix, n) == bit(&bytes, n))
}
