//! Sockets by the address at the other end.

use std::net::IpAddr;

use psentry_records::Prefix;

use super::{Comparison, any_of};

/// How many prefixes are asked for one by one. Of more, all sockets are listed.
const MOST: usize = 64;

/// Whether the other end lies in the prefix of the operand (`inet_diag_hostcond`).
const PEER: u8 = 8;

// The numbers of the system.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Picks sockets with a peer in one of these prefixes; `None`: they are too many, or none.
pub(crate) fn prefixes(scopes: &[Prefix]) -> Option<Vec<u8>> {
    if scopes.is_empty() || scopes.len() > MOST {
        return None;
    }
    let within = |scope: &Prefix| vec![Comparison { code: PEER, operand: any_port_of(*scope) }];
    Some(any_of(&scopes.iter().map(within).collect::<Vec<_>>()))
}

/// Whatever port of a prefix. The kernel looks for IPv4 in sockets of IPv6, too.
fn any_port_of(scope: Prefix) -> Vec<u8> {
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
    use super::super::interpreter::{Socket, picks};
    use super::*;

    #[test]
    fn the_kernel_takes_what_lies_in_one_of_the_prefixes() {
        let scopes: Vec<Prefix> =
            ["192.0.2.7", "2001:db8::/64", "198.51.96.0/20"].map(|scope| scope.parse().unwrap()).to_vec();
        let filter = prefixes(&scopes).unwrap();
        assert!(filter.len().is_multiple_of(4));
        for (peer, picked) in [
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("198.51.111.255", true),
            ("198.51.112.0", false),
            ("2001:db8::9", true),
            ("2001:db8:1::9", false),
        ] {
            let socket = Socket { peer: peer.parse().unwrap(), ..Socket::default() };
            assert_eq!(picks(&filter, &socket), picked, "{peer}");
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_kernels_header() {
        let number = u16::to_ne_bytes;
        let bytes = [
            &[8, 16][..],
            &number(20),
            &[2, 32, 0, 0, 255, 255, 255, 255, 192, 0, 2, 7],
            &[1, 4],
            &number(20),
            &[8, 16],
            &number(20),
            &[2, 24, 0, 0, 255, 255, 255, 255, 192, 0, 3, 0],
        ];
        let scopes = ["192.0.2.7", "192.0.3.0/24"].map(|scope| scope.parse().unwrap());
        assert_eq!(prefixes(&scopes).unwrap(), bytes.concat());
    }

    #[test]
    fn of_too_many_all_are_listed() {
        let scope: Prefix = "192.0.2.7".parse().unwrap();
        assert!(prefixes(&[scope; MOST]).is_some_and(|filter| filter.len() < usize::from(u16::MAX)));
        assert_eq!(prefixes(&[scope; MOST + 1]), None);
        assert_eq!(prefixes(&[]), None);
    }
}
