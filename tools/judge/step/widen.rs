//! From the conviction of many sources to the block of their prefix.

use psentry_records::{Action, Prefix, Timestamp, Verdict};

use super::Finding;
use super::pronounce::{brake_words, count, end, verdict};
use crate::guard::{Braking, Tick, sketch};
use crate::memory::Contact;
use crate::policy::{Length, Policy};
use crate::sighting::Sighting;
use crate::state::State;

/// Blocks the prefix of a source that was just convicted, where many of its sources behave alike.
#[allow(clippy::too_many_arguments)] // the moment of a conviction, as it is at hand
pub(super) fn widen(
    state: &mut State,
    policy: &Policy,
    seen: &Sighting,
    scope: Prefix,
    finding: &Finding,
    until: Timestamp,
    tick: Tick,
    verdicts: &mut Vec<Verdict>,
) {
    // Single addresses of one /64 are one machine's, or all of IPv4 behind a translator.
    if tick.wild() || policy.is_apart(scope) {
        return;
    }
    let now = tick.now;
    let ports = sketch(finding.contacts.iter().filter_map(Contact::port));
    let needed = policy.sources_of_sweep(scope);
    let Some(widening) = state.sweeps.convicted(&policy.sweep, needed, scope, ports, until, now) else {
        return;
    };
    let prefix = widening.prefix;
    if policy.spares(prefix) || state.vouchers.of(prefix, now).is_some() {
        return;
    }
    match state.brake.press(&policy.brake, prefix, true, now) {
        Braking::Free => {}
        braking => {
            // The single sources are told of one by one; their prefix waits until the brake lets go.
            state.counters.braked += 1;
            state.notices.extend(brake_words(policy, true, braking));
            return;
        }
    }
    let (others, room) = bystanders(state, prefix);
    let reason = format!(
        "{} sources of {prefix} were convicted and behaved alike, so all of it is blocked for a while: besides them \
         {others} of its {room} sources were seen and not convicted, and any of them may be innocent.",
        widening.sources
    );
    let lasts = Length::For(policy.sweep.duration);
    state.counters.sweeps += 1;
    state.sweeps.widened(prefix, end(lasts, now));
    count(state, Action::Block);
    let sweep = Finding {
        rule: "sweep".to_owned(),
        weight: finding.weight,
        proven: true,
        grounds: String::new(),
        contacts: finding.contacts.clone(),
        offence: 1,
        level: finding.level,
        convicts: true,
        raised: false,
    };
    verdicts.push(verdict(Action::Block, prefix, &sweep, Some(lasts), reason, seen, tick.at));
}

/// How many sources of a prefix are remembered and not convicted, and how many there can be.
fn bystanders(state: &State, prefix: Prefix) -> (usize, u64) {
    let bits = if prefix.is_ipv4() { 32 } else { 64 };
    let room = 1u64 << (bits - prefix.len().min(bits)).min(63);
    // 65,536 is the most that is looked up: the /64s of a /48, or the addresses of a /16.
    let scope = |n: u64| match prefix.addr() {
        std::net::IpAddr::V4(addr) => {
            Prefix::host(std::net::Ipv4Addr::from_bits(addr.to_bits() | u32::try_from(n).unwrap_or(0)).into())
        }
        std::net::IpAddr::V6(addr) => {
            Prefix::around(std::net::Ipv6Addr::from_bits(addr.to_bits() | u128::from(n) << 64).into(), 64)
        }
    };
    let seen = (0..room.min(65_536)).filter_map(|n| state.sources.peek(scope(n)));
    (seen.filter(|source| source.conviction().is_none()).count(), room)
}
