//! From a finding to a verdict on its source: what its level, a voucher and the brake make of a conviction.

use psentry_records::{Action, Timestamp, Verdict, VerdictBody};

use super::case::Case;
use super::finding::{Change, Finding};
use super::verdict::{count, end, verdict};
use crate::brake::Admission;
use crate::memory::Conviction;
use crate::penalty::block_duration;
use crate::state::State;
use crate::wording;

/// Adds the verdict on a source, and remembers the conviction. Until when it is blocked, if handshakes prove that it is
/// to be: then the prefix around it may be next.
pub(super) fn enforce(
    state: &mut State,
    case: &Case,
    finding: &Finding,
    verdicts: &mut Vec<Verdict>,
) -> Option<Timestamp> {
    let &Case { policy, scope, tick, .. } = case;
    let mut reason = format!("{}; {}.", wording::evidence(policy, &finding.contacts), finding.reason);
    if finding.change == Change::Climbed {
        state.counters.watches += 1;
        verdicts.push(verdict(case, Action::Watch, scope, finding, None, reason));
        return None;
    }
    let duration =
        block_duration(&policy.block, finding.proven, finding.offence.unwrap_or(1), scope, tick.at);
    let mut until = end(duration, tick.at);
    let mut action = if policy.block.observe { Action::Watch } else { Action::Block };
    if finding.level < policy.levels.block {
        action = Action::Watch;
        reason.push_str(&format!(" It is only watched below level {}.", policy.levels.block));
    }
    if case.only_watched && action == Action::Block {
        action = Action::Watch;
        reason.push_str(" It is behind this machine, so it is only watched.");
    }
    if let Some(voucher) = state.vouchers.active(scope, tick.earlier())
        && action == Action::Block
    {
        action = Action::Watch;
        state.counters.vouched += 1;
        until = until.min(voucher.until);
        reason.push_str(&format!(" {}.", voucher.describe()));
    }
    let mut tripped = None;
    if action == Action::Block {
        // Also where its prefix is blocked: psentry-block may have had to refuse that, because this machine is in it.
        match state.brake.admit(&policy.brake, scope, finding.proven, tick.now) {
            Admission::Admitted => {}
            refused => {
                action = Action::Watch;
                state.counters.braked += 1;
                // When the brake lets go, the conviction is over too, so that it is judged anew.
                until = until.min(refused.until().unwrap_or(tick.now));
                reason.push_str(wording::turned_down(refused));
                tripped = wording::brake(&policy.brake, finding.proven, refused);
            }
        }
    }
    count(state, action);
    remember(state, case, finding, until, action == Action::Watch && !policy.block.observe);
    let on_source = verdict(case, action, scope, finding, Some(duration), reason);
    if let Some(sentence) = tripped {
        state.warnings.push(sentence.clone());
        state.counters.watches += 1;
        let body = VerdictBody {
            level: Some(5),
            rule: Some("brake".to_owned()),
            reason: Some(sentence),
            ..VerdictBody::new(Action::Watch, scope)
        };
        verdicts.push(Verdict { common: on_source.common.clone(), body });
    }
    verdicts.push(on_source);
    (finding.proven && action == Action::Block).then_some(until)
}

fn remember(state: &mut State, case: &Case, finding: &Finding, until: Timestamp, watch_only: bool) {
    state.sources.update(case.scope, |source| match finding.change {
        Change::Convicted => source.convict(until, Conviction { proven: finding.proven, watch_only }),
        Change::Enforced if !watch_only => source.enforce(until),
        // Still only watched, by a voucher or the brake.
        Change::Enforced | Change::Climbed => {}
    });
}
