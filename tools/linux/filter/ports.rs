//! Sockets by their ports, at this end or at the other one.

use std::ops::RangeInclusive;

use super::{Comparison, any_of};

/// Whether a port is at least, or at most, the operand: at this end, at the other end.
const LOCAL: (u8, u8) = (2, 3);
const REMOTE: (u8, u8) = (4, 5);

/// Picks sockets whose port at this end is in one of the first ranges, or at the other end in one of the second ones.
/// Where there are no ranges at all it is empty, which picks every socket.
pub(crate) fn ports(local: &[RangeInclusive<u16>], remote: &[RangeInclusive<u16>]) -> Vec<u8> {
    let ranges = local.iter().map(|range| (LOCAL, range)).chain(remote.iter().map(|range| (REMOTE, range)));
    let within = |((least, most), range): ((u8, u8), &RangeInclusive<u16>)| {
        vec![compared(least, *range.start()), compared(most, *range.end())]
    };
    any_of(&ranges.map(within).collect::<Vec<_>>())
}

/// The operand has the form of an instruction, with the port where the second distance stands.
fn compared(code: u8, port: u16) -> Comparison {
    Comparison { code, operand: [&[0, 0][..], &port.to_ne_bytes()].concat() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::interpreter::{Socket, picks};
    use super::*;

    fn ranges() -> impl Strategy<Value = Vec<RangeInclusive<u16>>> {
        prop::collection::vec((0u16..100, 0u16..20).prop_map(|(first, more)| first..=first + more), 0..8)
    }

    proptest! {
        #[test]
        fn what_is_in_a_range_is_picked_and_nothing_else(
            local in ranges(), remote in ranges(), at in (0u16..130, 0u16..130)
        ) {
            let filter = ports(&local, &remote);
            let holds = |ranges: &[RangeInclusive<u16>], port| ranges.iter().any(|r| r.contains(&port));
            let want = (local.is_empty() && remote.is_empty()) || holds(&local, at.0) || holds(&remote, at.1);
            let socket = Socket { local: at.0, remote: at.1, ..Socket::default() };
            prop_assert_eq!(picks(&filter, &socket), want);
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_kernels_header() {
        let number = u16::to_ne_bytes;
        let bytes = [
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
        assert_eq!(ports(&[22..=23], &[53..=53]), bytes.concat());
    }
}
