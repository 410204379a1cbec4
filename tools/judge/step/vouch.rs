//! From a login to its voucher, and to the release of who was blocked.

use psentry_records::{Action, Prefix, Verdict, VerdictBody, Vouch};

use crate::clock::Tick;
use crate::memory::Source;
use crate::policy::Policy;
use crate::state::State;
use crate::vouchers::Voucher;

/// Takes a voucher; who is blocked, alone or with its prefix, is released.
pub(super) fn take_vouch(
    state: &mut State,
    policy: &Policy,
    vouch: &Vouch,
    scope: Prefix,
    tick: Tick,
    verdicts: &mut Vec<Verdict>,
) {
    state.counters.vouches += 1;
    // One from the future would last as long as that is away.
    let voucher = Voucher::new(&vouch.body, tick.earlier(), policy.vouch);
    state.vouchers.expire(tick.now);
    if voucher.until <= tick.now {
        return;
    }
    let reason = format!("{}.", voucher.describe());
    state.vouchers.add(scope, voucher);
    if policy.block.observe {
        return;
    }
    let mut scopes = state.sweeps.release(&policy.sweep, scope, tick.now);
    let in_force = |source: &&Source| source.until() > tick.earlier();
    let conviction = state.sources.peek(scope).filter(in_force).and_then(Source::conviction);
    if conviction.is_some_and(|conviction| !conviction.watch_only) {
        state.sources.update(scope, Source::release);
        scopes.push(scope);
    }
    for scope in scopes {
        state.counters.unblocks += 1;
        let body = VerdictBody {
            rule: Some("vouch".to_owned()),
            reason: Some(reason.clone()),
            ..VerdictBody::new(Action::Unblock, scope)
        };
        verdicts.push(Verdict { common: vouch.common.clone(), body });
    }
}
