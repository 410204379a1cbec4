//! From the conviction of many sources to the block of their prefix.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use psentry_records::{Action, Prefix, Timestamp, Verdict};

use super::case::Case;
use super::finding::{Change, Finding};
use super::verdict::{count, end, verdict};
use crate::brake::Admission;
use crate::machine::MachineFacts;
use crate::memory::Contact;
use crate::policy::BlockDuration;
use crate::state::State;
use crate::sweeps::{Member, port_bitmap};
use crate::wording;

/// Blocks the prefix of a source that was just convicted, and is blocked until then, where many of its sources behave
/// alike.
pub(super) fn block_prefix(
    state: &mut State,
    case: &Case,
    finding: &Finding,
    until: Timestamp,
    verdicts: &mut Vec<Verdict>,
) {
    let &Case { policy, scope, tick, .. } = case;
    // Single addresses of one /64 are one machine's, or all of IPv4 behind a translator.
    if tick.is_outlier() || policy.is_ungrouped(scope) {
        return;
    }
    // Where the neighbours are one's own, each is judged for itself.
    let spared = |machine: &MachineFacts, prefix| !policy.sweep.inside && policy.is_near(prefix, machine);
    if spared(&state.machine, scope) {
        return;
    }
    let now = tick.now;
    let ports = port_bitmap(finding.contacts.iter().filter_map(Contact::port));
    let needed = policy.sources_of_sweep(scope);
    let (machine, vouchers) = (&state.machine, &state.vouchers);
    let may_be_blocked = |prefix| {
        !policy.exempts(prefix) && !spared(machine, prefix) && vouchers.active(prefix, now).is_none()
    };
    let due = state.sweeps.add(&policy.sweep, needed, Member { scope, until, ports }, now, may_be_blocked);
    let Some(due) = due else { return };
    let prefix = due.prefix;
    match state.brake.admit(&policy.brake, prefix, true, now) {
        Admission::Admitted => {}
        refused => {
            // Each source has its own verdict; their prefix waits until the brake lets go.
            state.counters.braked += 1;
            state.warnings.extend(wording::brake(&policy.brake, true, refused));
            return;
        }
    }
    let (others, capacity) = bystanders(state, prefix);
    let reason = wording::sweep(&due, others, capacity);
    let duration = BlockDuration::For(policy.sweep.duration);
    state.counters.sweeps += 1;
    state.sweeps.set_blocked(prefix, end(duration, now));
    count(state, Action::Block);
    let sweep = Finding {
        change: Change::Convicted,
        rule: "sweep".to_owned(),
        score: finding.score,
        proven: true,
        reason: String::new(),
        contacts: finding.contacts.clone(),
        offence: None,
        level: finding.level,
    };
    verdicts.push(verdict(case, Action::Block, prefix, &sweep, Some(duration), reason));
}

/// How many sources of a prefix are remembered and not convicted, and how many there can be.
fn bystanders(state: &State, prefix: Prefix) -> (usize, u64) {
    let bits = if prefix.is_ipv4() { 32 } else { 64 };
    let capacity = 1u64 << (bits - prefix.len().min(bits)).min(63);
    // 65,536 is the most that is looked up: the /64s of a /48, or the addresses of a /16.
    let scope = |n: u64| match prefix.addr() {
        IpAddr::V4(addr) => {
            Prefix::host(Ipv4Addr::from_bits(addr.to_bits() | u32::try_from(n).unwrap_or(0)).into())
        }
        IpAddr::V6(addr) => {
            Prefix::around(Ipv6Addr::from_bits(addr.to_bits() | u128::from(n) << 64).into(), 64)
        }
    };
    let seen = (0..capacity.min(65_536)).filter_map(|n| state.sources.peek(scope(n)));
    (seen.filter(|source| source.conviction().is_none()).count(), capacity)
}
