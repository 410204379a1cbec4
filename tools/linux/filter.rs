//! Filters for sock_diag(7): the little programs that the kernel runs for each socket to see whether it is meant
//! (`inet_diag_bc_op` of linux/inet_diag.h). Here is what they are made of; what they pick by is in `ports.rs` and
//! `prefixes.rs`.
//!
//! The kernel goes on from each instruction by as many bytes as that says, one number for where it holds and one for where
//! it does not. What gets exactly to the end is picked, what gets four bytes beyond it is not.

mod ports;
mod prefixes;

pub(crate) use ports::ports;
pub(crate) use prefixes::prefixes;

/// The instruction that never holds. Where it goes on then is where it leads.
const JUMP: u8 = 1;

/// How long an instruction is without its operand.
const STEP: usize = 4;

/// An instruction that compares something of a socket with its operand.
struct Comparison {
    code: u8,
    operand: Vec<u8>,
}

impl Comparison {
    fn len(&self) -> usize {
        STEP + self.operand.len()
    }
}

/// The filter that picks what meets one of these conditions, each of which is met where all its comparisons hold. Without
/// any it is empty, which picks every socket.
fn any_of(conditions: &[Vec<Comparison>]) -> Vec<u8> {
    let length = |condition: &Vec<Comparison>| condition.iter().map(Comparison::len).sum::<usize>();
    let jumps = conditions.len().saturating_sub(1) * STEP;
    let mut to_the_end = conditions.iter().map(length).sum::<usize>() + jumps;
    let mut filter = Vec::with_capacity(to_the_end);
    for condition in conditions {
        // What does not hold leads behind the jump that follows: to the next condition, or beyond the end.
        let mut behind = length(condition) + STEP;
        for comparison in condition {
            step(&mut filter, comparison.code, comparison.len(), behind);
            filter.extend(&comparison.operand);
            behind -= comparison.len();
        }
        to_the_end -= length(condition);
        if to_the_end > 0 {
            step(&mut filter, JUMP, STEP, to_the_end);
            to_the_end -= STEP;
        }
    }
    filter
}

/// How far it is to the next instruction where this one holds, and where it does not. A filter of more than 64 KiB, in which
/// that could be too far to be told, is used by nobody.
fn step(filter: &mut Vec<u8>, code: u8, yes: usize, no: usize) {
    filter.extend([code, u8::try_from(yes).unwrap_or(u8::MAX)]);
    filter.extend(u16::try_from(no).unwrap_or(u16::MAX).to_ne_bytes());
}

#[cfg(test)]
mod interpreter;
