//! What the backends iptables and ipset share: the filter tables of iptables and ip6tables, in the variant that
//! speaks to nf_tables as in the legacy one. Rules are read with `-S` and changed with `iptables-restore
//! --noflush`, all of a batch in one step.
//!
//! | | |
//! |---|---|
//! | `tables.rs` | the programs, and the rules as they were last read by them |
//! | `rules.rs` | the rules that lead packets to blocks: kept first, and shadowed |
//! | `iptables/`, `ipset/` | the two backends |

mod ipset;
mod iptables;
mod rules;
mod tables;

use std::time::Duration;

use psentry_linux::Rule;

pub(super) use self::ipset::Ipset;
pub(super) use self::iptables::Iptables;
pub(super) use self::tables::PROGRAMS;
use super::in_order;
use crate::backend::Op;
use crate::error::Error;

/// IPv4 and IPv6, as "is it IPv4".
const FAMILIES: [bool; 2] = [true, false];

/// How often it is checked what is there, where the kernel does not report changes.
const POLL: Duration = Duration::from_secs(1);

/// Whether a rule in a builtin chain is one of psentry's: of the backend iptables or of ipset, which do not mind who is first.
fn is_psentry(rule: &Rule) -> bool {
    iptables::is_jump(rule) || ipset::is_match(rule)
}

/// Has each family's operations applied together.
fn by_family(
    ops: &[Op],
    mut apply: impl FnMut(bool, &[&Op]) -> Result<Vec<Result<(), Error>>, Error>,
) -> Vec<Result<(), Error>> {
    let mut done = Vec::new();
    for ipv4 in FAMILIES {
        let ops: Vec<&Op> = ops.iter().filter(|op| op.scope().is_ipv4() == ipv4).collect();
        let results = if ops.is_empty() { Ok(Vec::new()) } else { apply(ipv4, &ops) };
        let results = results.unwrap_or_else(|error| vec![Err(absent(ipv4, error)); ops.len()]);
        done.extend(ops.iter().map(|op| op.scope()).zip(results));
    }
    in_order(ops, done)
}

/// What a machine without IPv6 says of a block of it.
fn absent(ipv4: bool, error: Error) -> Error {
    match error {
        Error::System(below) if !ipv4 && below.is_unsupported() => Error::NoEffect(format!(
            "ip6tables does not work here, so the kernel of this machine has no IPv6 and there is nothing to block: {below}"
        )),
        error => error,
    }
}

#[cfg(test)]
mod tests;
