//! From a record to verdicts: the whole decision, without a clock, a file or a socket.
//!
//! | file | what it does with one probe, or vouch |
//! |---|---|
//! | `finding.rs` | adds it to the evidence, and finds what changes for its source |
//! | `enforce.rs` | makes of that change a block or a watch: levels, vouchers, the brake |
//! | `sweep.rs` | blocks the prefix around, where many of its sources were convicted |
//! | `vouch.rs` | takes a login, and releases who was blocked |
//! | `release.rs` | takes the word that a block was released |
//! | `case.rs`, `verdict.rs` | what all of them are given, and how a finding is written down |

mod case;
mod enforce;
mod finding;
mod release;
mod sweep;
mod verdict;
mod vouch;

use psentry_records::{Common, OutcomeResult, Probe, Record, Timestamp, Verdict};

use self::case::Case;
use self::enforce::enforce;
use self::finding::find;
pub(crate) use self::release::is_released;
use self::release::take_release;
use self::sweep::block_prefix;
use self::vouch::take_vouch;
use crate::clock::Tick;
use crate::evidence::Class;
use crate::observation::Observation;
use crate::policy::{InsideAction, Policy};
use crate::state::State;
use crate::tally::counts;

/// Judges one record: adds the verdicts that come of it to `verdicts`, each with what the judge knows of the probe
/// that decided it.
pub fn step(state: &mut State, policy: &Policy, record: &Record, verdicts: &mut Vec<Verdict>) {
    state.counters.records += 1;
    match record {
        Record::Probe(probe) => {
            let from = verdicts.len();
            if let Some(seen) = Observation::of(probe) {
                judge(state, policy, &seen, verdicts);
            }
            verdicts.iter_mut().skip(from).for_each(|verdict| complete(verdict, probe));
        }
        Record::Vouch(vouch) => {
            if let Some(addr) = vouch.common.src_ip {
                let tick = tick(state, vouch.common.timestamp);
                let scope = policy.scope(addr, &state.machine);
                take_vouch(state, policy, vouch, scope, tick, verdicts);
            }
        }
        Record::Stats(stats) => {
            let news = state.machine.take(stats, policy.host.as_deref());
            state.warnings.extend(news);
        }
        Record::Outcome(outcome) if outcome.body.result == OutcomeResult::Released => {
            let tick = tick(state, outcome.common.timestamp);
            take_release(state, outcome.body.scope, tick);
        }
        Record::Verdict(_) | Record::Outcome(_) | Record::Other(_) => {}
    }
}

/// Judges one probe, of which only the numbers are at hand.
pub fn step_observation(state: &mut State, policy: &Policy, seen: &Observation, verdicts: &mut Vec<Verdict>) {
    state.counters.records += 1;
    judge(state, policy, seen, verdicts);
}

/// Gives a verdict what [`step_observation`] did not know: the texts of the probe that decided it.
pub fn complete(verdict: &mut Verdict, probe: &Probe) {
    verdict.common = Common { timestamp: verdict.common.timestamp, ..probe.common.clone() };
}

/// Takes the time of a record, and what a jump of it means for what is remembered.
fn tick(state: &mut State, at: Timestamp) -> Tick {
    let before = state.clock.now();
    let tick = state.clock.tick(at);
    state.counters.late += u64::from(tick.late);
    if tick.jumped {
        state.counters.jumps += 1;
        let from = before.map(|before| before.to_string()).unwrap_or_default();
        let back = before.is_some_and(|before| tick.now < before);
        let how = if back { "jumped back" } else { "jumped" };
        state.warnings.push(format!("the time of the records {how} from {from} to {}", tick.now));
        if back {
            // A source is corrected when it is next seen (`set_back`); these two would act on others until then.
            state.sweeps.clock_set_back(tick.now, state.clock.set_back());
            state.vouchers.clock_set_back(tick.now);
        }
    }
    tick
}

fn judge(state: &mut State, policy: &Policy, seen: &Observation, verdicts: &mut Vec<Verdict>) {
    state.counters.probes += 1;
    let tick = tick(state, seen.at);
    let inside = state.machine.is_inside(seen.src).then_some(policy.inside.action);
    if policy.ignore.holds(seen.src) || inside == Some(InsideAction::Ignore) {
        state.counters.ignored += 1;
        return;
    }
    let scope = policy.scope(seen.src, &state.machine);
    let class = Class::of(seen, &state.machine).filter(|&class| {
        policy.named.is_empty() && seen.port.is_some() || {
            let treatment = policy.treatment(policy.networks_of(scope), seen.port, seen.proto);
            counts(policy, seen, class, &treatment)
        }
    });
    let Some(class) = class else {
        state.counters.uncounted += 1;
        return;
    };
    let only_watched = inside == Some(InsideAction::Watch);
    let case = Case { policy, seen, scope, tick, only_watched };
    let Some(finding) = find(state, &case, class) else { return };
    if let Some(until) = enforce(state, &case, &finding, verdicts) {
        block_prefix(state, &case, &finding, until, verdicts);
    }
}

#[cfg(test)]
mod tests;
