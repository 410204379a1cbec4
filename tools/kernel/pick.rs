//! A filter for sock_diag(7): the few instructions that the kernel runs for each socket to see whether it is meant
//! (`inet_diag_bc_op` of linux/inet_diag.h). This one picks by ports.

use std::ops::RangeInclusive;

/// The instructions: jump; is the port at this end, at the other end, at least, at most.
const JUMP: u8 = 1;
const LOCAL: (u8, u8) = (2, 3);
const REMOTE: (u8, u8) = (4, 5);

/// How long an instruction is, one with an operand, and the comparison with a range, which is two of these.
const STEP: u16 = 4;
const COMPARISON: u16 = 2 * STEP;
const RANGE: u16 = 2 * COMPARISON;

/// Picks sockets whose port at this end is in one of the first ranges, or at the other end in one of the second ones.
/// Where there are no ranges at all it is empty, which picks every socket.
///
/// The kernel counts from each instruction how far it goes on. At the end exactly a socket is picked, four bytes beyond
/// it is not. So a range that does not fit goes on right behind itself and the jump after it: to the next range, or
/// beyond the end.
pub(crate) fn either(local: &[RangeInclusive<u16>], remote: &[RangeInclusive<u16>]) -> Vec<u8> {
    let ranges: Vec<_> = local.iter().map(|r| (LOCAL, r)).chain(remote.iter().map(|r| (REMOTE, r))).collect();
    let mut filter = Vec::new();
    for (after, ((least, most), range)) in (0..ranges.len()).rev().zip(&ranges) {
        put(&mut filter, *least, COMPARISON, RANGE + STEP, *range.start());
        put(&mut filter, *most, COMPARISON, COMPARISON + STEP, *range.end());
        if after > 0 {
            // A filter of more than 64 KiB is refused before it gets here.
            let rest = after.saturating_mul((RANGE + STEP).into());
            step(&mut filter, JUMP, STEP, u16::try_from(rest).unwrap_or(u16::MAX));
        }
    }
    filter
}

/// A comparison with a port: how far to go on if it holds, and if not.
fn put(filter: &mut Vec<u8>, code: u8, yes: u16, no: u16, port: u16) {
    step(filter, code, yes, no);
    step(filter, 0, 0, port);
}

fn step(filter: &mut Vec<u8>, code: u8, yes: u16, no: u16) {
    filter.extend([code, u8::try_from(yes).unwrap_or(u8::MAX)]);
    filter.extend(no.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the kernel does with it (`inet_diag_bc_run`).
    fn picks(filter: &[u8], local: u16, remote: u16) -> bool {
        let (mut at, end) = (0, filter.len());
        while at < end {
            let number = |at: usize| u16::from_ne_bytes([filter[at], filter[at + 1]]);
            let (code, yes, no) = (filter[at], usize::from(filter[at + 1]), usize::from(number(at + 2)));
            let holds = match code {
                JUMP => false,
                2 => local >= number(at + 6),
                3 => local <= number(at + 6),
                4 => remote >= number(at + 6),
                5 => remote <= number(at + 6),
                _ => panic!("{code}"),
            };
            at += if holds { yes } else { no };
        }
        at == end
    }

    fn ranges() -> impl Strategy<Value = Vec<RangeInclusive<u16>>> {
        prop::collection::vec((0u16..100, 0u16..20).prop_map(|(first, more)| first..=first + more), 0..8)
    }

    proptest! {
        #[test]
        fn what_is_in_a_range_is_picked_and_nothing_else(
            local in ranges(), remote in ranges(), ports in (0u16..130, 0u16..130)
        ) {
            let filter = either(&local, &remote);
            let holds = |ranges: &[RangeInclusive<u16>], port| ranges.iter().any(|r| r.contains(&port));
            let want = (local.is_empty() && remote.is_empty())
                || holds(&local, ports.0) || holds(&remote, ports.1);
            prop_assert_eq!(picks(&filter, ports.0, ports.1), want);
        }
    }
}
