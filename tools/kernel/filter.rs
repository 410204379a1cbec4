//! A filter by which the kernel lists only sockets with a peer in one of some prefixes: a little program of sock_diag(7)
//! (linux/inet_diag.h), which goes from condition to condition, and accepts what gets exactly to its end.

use std::net::IpAddr;

use psentry_records::Prefix;

/// How many prefixes are asked for one by one. Of more, all sockets are listed.
const MOST: usize = 64;

// Numbers from linux/inet_diag.h and the system.
const JUMP: u8 = 1;
const PEER: u8 = 8;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// How long a step is without what it compares.
const STEP: usize = 4;

/// The filter for these prefixes; `None`: they are too many, or none.
pub(crate) fn of(scopes: &[Prefix]) -> Option<Vec<u8>> {
    if scopes.is_empty() || scopes.len() > MOST {
        return None;
    }
    // From its end, so that it is known how far away that is.
    let mut program: Vec<u8> = Vec::new();
    for scope in scopes.iter().rev() {
        let mut condition = condition(*scope);
        let length = STEP + condition.len();
        // The last one leads to the end, or beyond it.
        let jump = if program.is_empty() { Vec::new() } else { step(JUMP, STEP, STEP + program.len()) };
        let mut steps = step(PEER, length, length + STEP);
        steps.append(&mut condition);
        steps.extend(jump);
        steps.append(&mut program);
        program = steps;
    }
    Some(program)
}

/// A step: how far it is to the next where it holds, and where it does not. A jump is one that never holds.
fn step(code: u8, yes: usize, no: usize) -> Vec<u8> {
    let yes = u8::try_from(yes).unwrap_or(u8::MAX);
    let no = u16::try_from(no).unwrap_or(u16::MAX).to_ne_bytes();
    [&[code, yes][..], &no].concat()
}

/// Whatever port of a prefix. The kernel looks for IPv4 in sockets of IPv6, too.
fn condition(scope: Prefix) -> Vec<u8> {
    let family = if scope.is_ipv4() { AF_INET } else { AF_INET6 };
    let mut bytes = vec![family, scope.len(), 0, 0];
    bytes.extend((-1i32).to_ne_bytes());
    match scope.addr() {
        IpAddr::V4(v4) => bytes.extend(v4.octets()),
        IpAddr::V6(v6) => bytes.extend(v6.octets()),
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel runs it (`inet_diag_bc_run`): whether an address of these bytes is accepted.
    fn accepts(program: &[u8], family: u8, addr: &[u8]) -> bool {
        let (mut at, mut left) = (0usize, program.len() as i64);
        while left > 0 {
            let [code, yes] = [program[at], program[at + 1]];
            let no = u16::from_ne_bytes([program[at + 2], program[at + 3]]);
            let holds = code == PEER && {
                let (asked, bits) = (program[at + 4], usize::from(program[at + 5]));
                let prefix = &program[at + 12..at + usize::from(yes)];
                let bit = |bytes: &[u8], n: usize| bytes[n / 8] >> (7 - n % 8) & 1;
                asked == family && (0..bits).all(|n| bit(prefix, n) == bit(addr, n))
            };
            let far = if holds { usize::from(yes) } else { usize::from(no) };
            at += far;
            left -= far as i64;
        }
        left == 0
    }

    #[test]
    fn the_kernel_takes_what_lies_in_one_of_the_prefixes() {
        let scopes: Vec<Prefix> =
            ["192.0.2.7", "2001:db8::/64", "198.51.96.0/20"].map(|scope| scope.parse().unwrap()).to_vec();
        let program = of(&scopes).unwrap();
        assert!(program.len().is_multiple_of(4));
        for (addr, accepted) in [
            ([192, 0, 2, 7], true),
            ([192, 0, 2, 8], false),
            ([198, 51, 111, 255], true),
            ([198, 51, 112, 0], false),
        ] {
            assert_eq!(accepts(&program, AF_INET, &addr), accepted, "{addr:?}");
        }
        let v6 = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
        assert!(accepts(&program, AF_INET6, &v6("2001:db8::9")));
        assert!(!accepts(&program, AF_INET6, &v6("2001:db8:1::9")));
    }

    #[test]
    fn of_too_many_all_are_listed() {
        let scope: Prefix = "192.0.2.7".parse().unwrap();
        assert!(of(&[scope; MOST]).is_some_and(|program| program.len() < usize::from(u16::MAX)));
        assert_eq!(of(&[scope; MOST + 1]), None);
        assert_eq!(of(&[]), None);
    }
}
