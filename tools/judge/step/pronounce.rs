//! From a finding to verdicts: what level, voucher, brake and the block of a whole prefix make of a conviction.

use psentry_records::{Action, Common, Kind, Prefix, Timestamp, Verdict, VerdictBody};

use super::Finding;
use super::widen::widen;
use crate::guard::{Braking, Tick};
use crate::memory::{Contact, Conviction};
use crate::policy::{Length, Policy};
use crate::sentence::{deeds, length};
use crate::sighting::Sighting;
use crate::state::State;

/// Turns a finding into verdicts, and notes what stands from now on.
pub(super) fn pronounce(
    state: &mut State,
    policy: &Policy,
    seen: &Sighting,
    scope: Prefix,
    finding: Finding,
    tick: Tick,
    verdicts: &mut Vec<Verdict>,
) {
    let now = tick.at;
    let contacts: Vec<&Contact> = finding.contacts.iter().collect();
    let mut reason = format!("{}; {}.", deeds(&contacts), finding.grounds);
    if !finding.convicts && !finding.raised {
        state.counters.watches += 1;
        verdicts.push(verdict(Action::Watch, scope, &finding, None, reason, seen, now));
        return;
    }
    let lasts = length(&policy.block, finding.proven, finding.offence, scope, now);
    let mut until = end(lasts, now);
    let mut action = if policy.observe { Action::Watch } else { Action::Block };
    if finding.level < policy.levels.block {
        action = Action::Watch;
        reason.push_str(&format!(" It is only watched below level {}.", policy.levels.block));
    }
    if let Some(voucher) = state.vouchers.of(scope, tick.began())
        && action == Action::Block
    {
        action = Action::Watch;
        state.counters.vouched += 1;
        until = until.min(voucher.until);
        reason.push_str(&format!(" {}.", voucher.words()));
    }
    let mut loud = None;
    if action == Action::Block {
        // Also where its prefix is blocked: psentry-block may have had to refuse that, because this machine is in it.
        match state.brake.press(&policy.brake, scope, finding.proven, tick.now) {
            Braking::Free => {}
            braking => {
                action = Action::Watch;
                state.counters.braked += 1;
                until = until.min(braked(braking, tick.now));
                reason.push_str(" It is only watched, because the brake is on.");
                loud = brake_words(policy, finding.proven, braking);
            }
        }
    }
    count(state, action);
    convict(state, scope, &finding, until, action == Action::Watch && !policy.observe);
    let said = verdict(action, scope, &finding, Some(lasts), reason, seen, now);
    if let Some(words) = loud {
        state.notices.push(words.clone());
        state.counters.watches += 1;
        let body = VerdictBody {
            level: Some(5),
            rule: Some("brake".to_owned()),
            reason: Some(words),
            ..VerdictBody::new(Action::Watch, scope)
        };
        verdicts.push(Verdict { common: said.common.clone(), body });
    }
    verdicts.push(said);
    if finding.proven && action == Action::Block {
        widen(state, policy, seen, scope, &finding, until, tick, verdicts);
    }
}

pub(super) fn end(lasts: Length, now: Timestamp) -> Timestamp {
    match lasts {
        Length::For(span) => now.plus(span),
        Length::Forever => Timestamp::MAX,
    }
}

pub(super) fn count(state: &mut State, action: Action) {
    match action {
        Action::Block => state.counters.blocks += 1,
        Action::Watch => state.counters.watches += 1,
        Action::Unblock => state.counters.unblocks += 1,
    }
}

fn convict(state: &mut State, scope: Prefix, finding: &Finding, until: Timestamp, held: bool) {
    state.sources.with(scope, |source| {
        if finding.raised && held {
            // Still only watched: by a voucher, or the brake.
        } else if finding.raised {
            source.unhold(until);
        } else {
            source.convict(until, Conviction { proven: finding.proven, held });
        }
    });
}

/// Until when the brake has nothing more said of a source.
fn braked(braking: Braking, now: Timestamp) -> Timestamp {
    match braking {
        Braking::Trips(until) | Braking::On(until) => until,
        Braking::Free | Braking::Wide => now,
    }
}

pub(super) fn brake_words(policy: &Policy, proven: bool, braking: Braking) -> Option<String> {
    let Braking::Trips(until) = braking else { return None };
    let which = if proven { "proven" } else { "unproven" };
    let most = policy.brake.blocks;
    Some(format!(
        "More than {most} new blocks of {which} sources within a minute: until {until} psentry only watches such \
         sources; then it blocks again."
    ))
}

/// A finding as a verdict.
pub(super) fn verdict(
    action: Action,
    scope: Prefix,
    finding: &Finding,
    lasts: Option<Length>,
    reason: String,
    seen: &Sighting,
    now: Timestamp,
) -> Verdict {
    let contacts = &finding.contacts;
    let mut ports: Vec<u16> = contacts.iter().filter_map(Contact::port).collect();
    ports.sort_unstable();
    ports.dedup();
    let kinds: Vec<Kind> = Contact::kinds(contacts.iter());
    let duration = match lasts {
        Some(Length::For(span)) => Some(span.as_secs()),
        Some(Length::Forever) | None => None,
    };
    let body = VerdictBody {
        duration,
        level: Some(finding.level),
        score: Some(finding.weight.score),
        rule: Some(finding.rule.clone()),
        reason: Some(reason),
        offence: Some(finding.offence),
        ports,
        kinds,
        count: Some(contacts.iter().map(|contact| u64::from(contact.count())).sum()),
        first: contacts.iter().map(Contact::first).min(),
        last: contacts.iter().map(Contact::last).max(),
        handshake: Some(finding.proven),
        ..VerdictBody::new(action, scope)
    };
    let common = Common {
        src_ip: Some(seen.src),
        src_port: seen.src_port,
        dest_port: seen.port,
        proto: Some(seen.proto),
        ..Common::at(now)
    };
    Verdict { common, body }
}
