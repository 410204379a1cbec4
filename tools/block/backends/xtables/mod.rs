//! What the backends iptables and ipset share: the filter tables of iptables and ip6tables, in the variant that
//! speaks to nf_tables as in the legacy one. Rules are read with `-S` and changed with `iptables-restore
//! --noflush`, all of a batch in one step.
//!
//! | | |
//! |---|---|
//! | `tables.rs` | the programs, and the rules as they were last read by them |
//! | `rules.rs` | rules as `iptables -S` prints them: placed, deleted, shadowed |
//! | `iptables/`, `ipset/` | the two backends |

mod ipset;
mod iptables;
mod rules;
mod tables;

use std::time::Duration;

pub(super) use self::ipset::Ipset;
pub(super) use self::iptables::Iptables;
use self::rules::Rule;
pub(super) use self::tables::PROGRAMS;
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

/// Has each family's operations applied together, and puts the results in the order of the operations.
fn by_family(
    ops: &[Op],
    mut apply: impl FnMut(bool, &[&Op]) -> Result<Vec<Result<(), Error>>, Error>,
) -> Vec<Result<(), Error>> {
    let [mut v4, mut v6] = FAMILIES.map(|ipv4| {
        let ops: Vec<&Op> = ops.iter().filter(|op| op.scope().is_ipv4() == ipv4).collect();
        let results = if ops.is_empty() { Ok(Vec::new()) } else { apply(ipv4, &ops) };
        let all_fail = |error: Error| ops.iter().map(|_| Err(absent(ipv4, error.clone()))).collect();
        results.unwrap_or_else(all_fail).into_iter()
    });
    let missing =
        || Err(Error::Unfinished("an operation has no result; this is a bug of psentry".to_owned()));
    let result = |op: &Op| if op.scope().is_ipv4() { v4.next() } else { v6.next() };
    ops.iter().map(result).map(|result| result.unwrap_or_else(missing)).collect()
}

/// On a machine without IPv6 there is nothing to be made or found for it, which is no error until somebody of IPv6 is to be
/// blocked. Whether it has IPv6 is known by whether ip6tables works: /proc/net and sockets may be hidden from a service.
fn unless_absent<T>(ipv4: bool, result: Result<T, Error>, absent: T) -> Result<T, Error> {
    match result {
        Err(error) if !ipv4 && error.is_unsupported() => Ok(absent),
        result => result,
    }
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
