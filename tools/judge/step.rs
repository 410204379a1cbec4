//! From a record to verdicts: the whole decision, without a clock, a file or a socket.

mod pronounce;
mod widen;

use psentry_records::{Action, Common, Prefix, Probe, Record, Timestamp, Verdict, VerdictBody, Vouch};

use self::pronounce::pronounce;

use crate::evidence::{Class, Classes, Tally, counts};
use crate::guard::{Tick, Voucher};
use crate::memory::{Contact, Source};
use crate::rules::rounded;
use crate::sentence::level;
use crate::sighting::Sighting;
use crate::{Policy, State, Weight};

/// Judges one record: adds the verdicts that come of it to `verdicts`, each with what the judge knows of the probe
/// that decided it.
pub fn step(state: &mut State, policy: &Policy, record: &Record, verdicts: &mut Vec<Verdict>) {
    state.counters.records += 1;
    match record {
        Record::Probe(probe) => {
            let from = verdicts.len();
            if let Some(seen) = Sighting::of(probe) {
                judge(state, policy, &seen, verdicts);
            }
            verdicts.iter_mut().skip(from).for_each(|verdict| complete(verdict, probe));
        }
        Record::Vouch(vouch) => vouched(state, policy, vouch, verdicts),
        Record::Verdict(_) | Record::Outcome(_) | Record::Stats(_) | Record::Other(_) => {}
    }
}

/// Judges one probe, of which only the numbers are at hand.
pub fn step_sighting(state: &mut State, policy: &Policy, seen: &Sighting, verdicts: &mut Vec<Verdict>) {
    state.counters.records += 1;
    judge(state, policy, seen, verdicts);
}

/// Gives a verdict what [`step_sighting`] did not know: the texts of the probe that decided it.
pub fn complete(verdict: &mut Verdict, probe: &Probe) {
    verdict.common = Common { timestamp: verdict.common.timestamp, ..probe.common.clone() };
}

fn tick(state: &mut State, at: Timestamp) -> Tick {
    let before = state.clock.now();
    let tick = state.clock.tick(at);
    state.counters.late += u64::from(tick.late);
    if tick.jumped {
        state.counters.jumps += 1;
        let from = before.map(|before| before.to_string()).unwrap_or_default();
        state.notices.push(format!("the time of the records jumped from {from} to {}", tick.now));
        if before.is_some_and(|before| tick.now < before) {
            state.sweeps.clear();
            state.vouchers.set_back(tick.now);
        }
    }
    tick
}

/// What is to be said of a source, worked out while it is at hand.
struct Finding {
    rule: String,
    weight: Weight,
    proven: bool,
    grounds: String,
    contacts: Vec<Contact>,
    offence: u32,
    level: u8,
    /// Whether it is convicted, or only climbs.
    convicts: bool,
    /// The conviction stood already, only watched; now its level is high enough, or what kept it from being blocked is
    /// over.
    raised: bool,
}

fn judge(state: &mut State, policy: &Policy, seen: &Sighting, verdicts: &mut Vec<Verdict>) {
    state.counters.probes += 1;
    let tick = tick(state, seen.at);
    if policy.ignore.holds(seen.src) {
        state.counters.ignored += 1;
        return;
    }
    let scope = policy.scope(seen.src);
    let class = Class::of(seen).filter(|&class| {
        policy.named.is_empty() || {
            let treatment = policy.treatment(policy.networks_of(scope), seen.port, seen.proto);
            counts(policy, class, &treatment, seen.handshake)
        }
    });
    let Some(class) = class else {
        state.counters.uncounted += 1;
        return;
    };
    let finding = find(state, policy, seen, scope, class, tick);
    if let Some(finding) = finding {
        pronounce(state, policy, seen, scope, finding, tick, verdicts);
    }
}

/// Takes note of a probe; what is to be said of its source, if anything.
fn find(
    state: &mut State,
    policy: &Policy,
    seen: &Sighting,
    scope: Prefix,
    class: Class,
    tick: Tick,
) -> Option<Finding> {
    let now = tick.at;
    let (brake, vouchers) = (&state.brake, &state.vouchers);
    // What turned a block down before is not asked again while it lasts: it would be said at every packet.
    let free =
        |proven| !brake.is_on(&policy.brake, proven, tick.now) && vouchers.of(scope, tick.began()).is_none();
    state.sources.with(scope, |source| {
        if !tick.wild() {
            source.set_right(tick.now);
        }
        source.release(now);
        source.forgive(now, policy.block.forgive);
        let news = source.note(seen, now, Classes::one(class), policy.room());
        let standing = source.conviction();
        let climbs = policy.levels.watch > 0 || standing.is_some_and(|standing| standing.held);
        let settled = standing.is_some_and(|standing| standing.proven);
        if !climbs && (!news || settled) {
            return None;
        }
        let tally = Tally::of(source, scope, policy);
        let decided = decide(policy, &tally).filter(|_| !settled);
        let fresh = decided.filter(|decision| standing.is_none() || decision.proven);
        let counted = standing.is_some_and(|standing| standing.proven && !standing.held);
        let offence = source.offences() + u32::from(!counted);
        let proven = fresh.as_ref().map(|fresh| fresh.proven).or(standing.map(|standing| standing.proven));
        let level = level(&policy.levels, source.packets(), tally.all.distinct, proven, offence);
        let raised = fresh.is_none()
            && level >= policy.levels.block
            && standing.is_some_and(|standing| {
                standing.held && (source.level() < policy.levels.block || free(standing.proven))
            });
        let climbed = policy.levels.watch > 0 && level >= policy.levels.watch && level > source.level();
        let slow = fresh.as_ref().is_some_and(|fresh| fresh.slow);
        if fresh.is_none() && !raised && !climbed {
            return None;
        }
        source.set_level(level);
        let convicts = fresh.is_some();
        let fresh = fresh.unwrap_or_else(|| Decision {
            rule: "level".to_owned(),
            weight: Weight { score: rounded(tally.all.score), convicts: false },
            proven: proven.unwrap_or(false),
            grounds: format!("that makes it level {level}"),
            slow: false,
        });
        Some(Finding {
            rule: fresh.rule,
            weight: fresh.weight,
            proven: fresh.proven,
            grounds: fresh.grounds,
            contacts: tally.grounds(source, slow).into_iter().copied().collect(),
            offence,
            level,
            convicts,
            raised,
        })
    })
}

/// What convicts, and by what.
struct Decision {
    rule: String,
    weight: Weight,
    proven: bool,
    grounds: String,
    slow: bool,
}

/// Whether the evidence convicts: first by handshakes alone, then by all of it.
fn decide(policy: &Policy, tally: &Tally) -> Option<Decision> {
    for (view, proven) in [(&tally.proven, true), (&tally.all, false)] {
        if let Some(rule) = view.first_touch.and_then(|n| policy.named.get(n)) {
            return Some(Decision {
                rule: rule.name.clone(),
                weight: Weight { score: rounded(tally.all.score), convicts: true },
                proven,
                grounds: format!("by the rule {} the first touch convicts", rule.name),
                slow: false,
            });
        }
        for rule in &policy.rules {
            if rule.weigh(view).convicts {
                return Some(Decision {
                    rule: rule.name().to_owned(),
                    weight: rule.weigh(&tally.all),
                    proven,
                    grounds: rule.grounds(),
                    slow: rule.is_slow(),
                });
            }
        }
    }
    None
}

/// Takes a voucher; who is blocked, or would be, is let in again.
fn vouched(state: &mut State, policy: &Policy, vouch: &Vouch, verdicts: &mut Vec<Verdict>) {
    let Some(addr) = vouch.common.src_ip else { return };
    let tick = tick(state, vouch.common.timestamp);
    state.counters.vouches += 1;
    let scope = policy.scope(addr);
    // One from the future would last as long as that is away.
    let voucher = Voucher::new(&vouch.body, tick.began(), policy.vouch);
    state.vouchers.expire(tick.now);
    if voucher.until <= tick.now {
        return;
    }
    let words = voucher.words();
    state.vouchers.add(scope, voucher);
    if policy.observe {
        return;
    }
    let mut scopes = state.sweeps.lift(&policy.sweep, scope, tick.now);
    let stands = |source: &&Source| source.until() > tick.began();
    let blocked = state.sources.peek(scope).filter(stands).and_then(Source::conviction);
    if blocked.is_some_and(|standing| !standing.held) {
        state.sources.with(scope, Source::acquit);
        scopes.push(scope);
    }
    for scope in scopes {
        state.counters.unblocks += 1;
        let body = VerdictBody {
            rule: Some("vouch".to_owned()),
            reason: Some(format!("{words}.")),
            ..VerdictBody::new(Action::Unblock, scope)
        };
        verdicts.push(Verdict { common: vouch.common.clone(), body });
    }
}

#[cfg(test)]
mod abuse;
#[cfg(test)]
mod tests;
