//! Bytecode for sock_diag(7): a small program in a dump request, which the kernel runs for each socket to decide
//! whether to list it (`inet_diag_bc_op` of linux/inet_diag.h). Builds programs that select by ports or by remote
//! addresses; the requests are in `sock_diag/message.rs`.
//!
//! An instruction has a code and two jump distances in bytes: `yes`, where its comparison holds, and `no`, where it
//! does not. A program that jumps exactly to its end selects the socket; one that jumps four bytes further rejects it.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use netlink_packet_sock_diag::{AF_INET, AF_INET6};
use psentry_records::Prefix;

/// INET_DIAG_BC_JMP never holds, so it always jumps by `no`.
const JUMP: u8 = 1;

/// INET_DIAG_BC_S_GE and INET_DIAG_BC_S_LE: the local port is at least, or at most, the operand.
const LOCAL_PORT: (u8, u8) = (2, 3);
/// INET_DIAG_BC_D_GE and INET_DIAG_BC_D_LE: the same of the remote port.
const REMOTE_PORT: (u8, u8) = (4, 5);

/// INET_DIAG_BC_D_COND: the remote address lies in the prefix of the operand (`inet_diag_hostcond`).
const REMOTE_ADDR: u8 = 8;

/// The length of `inet_diag_bc_op`, an instruction without its operand.
const INSTRUCTION_LEN: usize = 4;

/// The most prefixes in one program. The kernel compares each socket with all of them in turn, so of more it lists
/// every socket; the caller looks them up in a table.
const MAX_PREFIXES: usize = 64;

/// An instruction that compares something of a socket with its operand.
struct Comparison {
    code: u8,
    operand: Vec<u8>,
}

impl Comparison {
    fn len(&self) -> usize {
        INSTRUCTION_LEN + self.operand.len()
    }
}

/// Selects sockets with a local port in one of the first ranges or a remote port in one of the second. Without any
/// range the program is empty, and the kernel lists every socket.
pub(crate) fn by_ports(local: &[RangeInclusive<u16>], remote: &[RangeInclusive<u16>]) -> Vec<u8> {
    let local = local.iter().map(|range| (LOCAL_PORT, range));
    let ranges = local.chain(remote.iter().map(|range| (REMOTE_PORT, range)));
    let within = |((at_least, at_most), range): ((u8, u8), &RangeInclusive<u16>)| {
        vec![compare_port(at_least, *range.start()), compare_port(at_most, *range.end())]
    };
    any_of(&ranges.map(within).collect::<Vec<_>>())
}

/// Selects sockets with a remote address in one of these prefixes. Of more than 64, or none, the program is empty, and
/// the kernel lists every socket.
pub(crate) fn by_prefixes(prefixes: &[Prefix]) -> Vec<u8> {
    if prefixes.len() > MAX_PREFIXES {
        return Vec::new();
    }
    let within = |prefix: &Prefix| vec![Comparison { code: REMOTE_ADDR, operand: host_condition(*prefix) }];
    any_of(&prefixes.iter().map(within).collect::<Vec<_>>())
}

/// The operand of a port comparison has the form of an instruction, with the port in the place of `no`.
fn compare_port(code: u8, port: u16) -> Comparison {
    Comparison { code, operand: [&[0, 0][..], &port.to_ne_bytes()].concat() }
}

/// `inet_diag_hostcond` with a prefix and port -1, which is any. With AF_INET the kernel also looks at the IPv4-mapped
/// addresses of IPv6 sockets.
fn host_condition(prefix: Prefix) -> Vec<u8> {
    let family = if prefix.is_ipv4() { AF_INET } else { AF_INET6 };
    let mut bytes = vec![family, prefix.len(), 0, 0];
    bytes.extend((-1i32).to_ne_bytes());
    match prefix.addr() {
        IpAddr::V4(v4) => bytes.extend(v4.octets()),
        IpAddr::V6(v6) => bytes.extend(v6.octets()),
    }
    bytes
}

/// The program that selects what meets one of these conditions, each of which is met where all its comparisons hold.
fn any_of(conditions: &[Vec<Comparison>]) -> Vec<u8> {
    let length = |condition: &Vec<Comparison>| condition.iter().map(Comparison::len).sum::<usize>();
    let jumps = conditions.len().saturating_sub(1) * INSTRUCTION_LEN;
    let mut to_the_end = conditions.iter().map(length).sum::<usize>() + jumps;
    let mut program = Vec::with_capacity(to_the_end);
    for condition in conditions {
        // A comparison that does not hold jumps over the jump that follows its condition: to the next condition, or
        // after the last one four bytes beyond the end.
        let mut to_the_next = length(condition) + INSTRUCTION_LEN;
        for comparison in condition {
            push(&mut program, comparison.code, comparison.len(), to_the_next);
            program.extend(&comparison.operand);
            to_the_next -= comparison.len();
        }
        to_the_end -= length(condition);
        if to_the_end > 0 {
            push(&mut program, JUMP, INSTRUCTION_LEN, to_the_end);
            to_the_end -= INSTRUCTION_LEN;
        }
    }
    program
}

/// Appends an instruction. Distances of more than 64 KiB cannot be written; such a program fits into no attribute, so
/// nobody sends it.
fn push(program: &mut Vec<u8>, code: u8, yes: usize, no: usize) {
    program.extend([code, u8::try_from(yes).unwrap_or(u8::MAX)]);
    program.extend(u16::try_from(no).unwrap_or(u16::MAX).to_ne_bytes());
}

#[cfg(test)]
mod interpreter;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::interpreter::{Socket, selects};
    use super::*;

    fn ranges() -> impl Strategy<Value = Vec<RangeInclusive<u16>>> {
        prop::collection::vec((0u16..100, 0u16..20).prop_map(|(first, more)| first..=first + more), 0..8)
    }

    fn prefixes(texts: &[&str]) -> Vec<Prefix> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    proptest! {
        #[test]
        fn a_port_in_a_range_is_selected_and_no_other(
            local in ranges(), remote in ranges(), ports in (0u16..130, 0u16..130)
        ) {
            let program = by_ports(&local, &remote);
            let contain = |ranges: &[RangeInclusive<u16>], port| ranges.iter().any(|r| r.contains(&port));
            let all = local.is_empty() && remote.is_empty();
            let want = all || contain(&local, ports.0) || contain(&remote, ports.1);
            let socket = Socket { local_port: ports.0, remote_port: ports.1, ..Socket::default() };
            prop_assert_eq!(selects(&program, &socket), want);
        }
    }

    #[test]
    fn an_address_in_a_prefix_is_selected_and_no_other() {
        let program = by_prefixes(&prefixes(&["192.0.2.7", "2001:db8::/64", "198.51.96.0/20"]));
        assert!(program.len().is_multiple_of(4));
        for (remote_addr, selected) in [
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("198.51.111.255", true),
            ("198.51.112.0", false),
            ("2001:db8::9", true),
            ("2001:db8:1::9", false),
        ] {
            let socket = Socket { remote_addr: remote_addr.parse().unwrap(), ..Socket::default() };
            assert_eq!(selects(&program, &socket), selected, "{remote_addr}");
        }
    }

    #[test]
    fn too_many_prefixes_or_none_select_every_socket() {
        let prefix: Prefix = "192.0.2.7".parse().unwrap();
        assert!((1..usize::from(u16::MAX)).contains(&by_prefixes(&[prefix; MAX_PREFIXES]).len()));
        assert!(by_prefixes(&[prefix; MAX_PREFIXES + 1]).is_empty());
        assert!(by_prefixes(&[]).is_empty());
    }

    #[test]
    fn the_bytes_are_those_of_the_kernels_header() {
        let number = u16::to_ne_bytes;
        let ports = [
            &[2, 8][..],
            &number(20),
            &[0, 0],
            &number(22),
            &[3, 8],
            &number(12),
            &[0, 0],
            &number(23),
            &[1, 4],
            &number(20),
            &[4, 8],
            &number(20),
            &[0, 0],
            &number(53),
            &[5, 8],
            &number(12),
            &[0, 0],
            &number(53),
        ];
        assert_eq!(by_ports(&[22..=23], &[53..=53]), ports.concat());
        let addresses = [
            &[8, 16][..],
            &number(20),
            &[2, 32, 0, 0, 255, 255, 255, 255, 192, 0, 2, 7],
            &[1, 4],
            &number(20),
            &[8, 16],
            &number(20),
            &[2, 24, 0, 0, 255, 255, 255, 255, 192, 0, 3, 0],
        ];
        assert_eq!(by_prefixes(&prefixes(&["192.0.2.7", "192.0.3.0/24"])), addresses.concat());
    }
}
