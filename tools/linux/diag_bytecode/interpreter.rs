//! What the kernel does with a program (`inet_diag_bc_run`), for tests. Its numbers are its own, so that a wrong one in
//! `diag_bytecode.rs` is noticed.

use std::net::{IpAddr, Ipv4Addr};

/// What a program sees of a socket.
pub(super) struct Socket {
    pub(super) local_port: u16,
    pub(super) remote_port: u16,
    pub(super) remote_addr: IpAddr,
}

impl Default for Socket {
    fn default() -> Self {
        Socket { local_port: 0, remote_port: 0, remote_addr: Ipv4Addr::UNSPECIFIED.into() }
    }
}

/// Whether the program selects it.
pub(super) fn selects(program: &[u8], socket: &Socket) -> bool {
    let (mut at, end) = (0, program.len());
    while at < end {
        let number = |at: usize| u16::from_ne_bytes([program[at], program[at + 1]]);
        let (code, yes, no) = (program[at], usize::from(program[at + 1]), usize::from(number(at + 2)));
        let holds = match code {
            1 => false,
            2 => socket.local_port >= number(at + 6),
            3 => socket.local_port <= number(at + 6),
            4 => socket.remote_port >= number(at + 6),
            5 => socket.remote_port <= number(at + 6),
            8 => lies_within(&program[at + 4..at + yes], socket.remote_addr),
            _ => panic!("{code}"),
        };
        at += if holds { yes } else { no };
    }
    at == end
}

/// Whether an address meets an `inet_diag_hostcond` of any port.
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
