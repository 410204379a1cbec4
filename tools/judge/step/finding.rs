//! From a probe to a finding: the evidence with it, and what that changes for its source.

use super::case::Case;
use crate::evidence::{Class, Classes};
use crate::memory::{Contact, Conviction};
use crate::penalty::level;
use crate::policy::Policy;
use crate::rules::rounded;
use crate::state::State;
use crate::tally::Tally;

/// What changes for a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The evidence convicts it: where no conviction is in force, or by handshakes where the one in force could be
    /// forged.
    Convicted,
    /// Its conviction was only watched, and what kept it from being blocked is over: its level, a voucher, the brake.
    Enforced,
    /// Nothing but its level, which has risen to one that is reported.
    Climbed,
}

/// What a verdict is made of, worked out while the source is at hand.
pub(super) struct Finding {
    pub(super) change: Change,
    pub(super) rule: String,
    pub(super) score: f64,
    pub(super) proven: bool,
    /// The rule's reason, to end a sentence.
    pub(super) reason: String,
    /// The contacts that the finding rests on.
    pub(super) contacts: Vec<Contact>,
    /// The how-manieth offence of its source this is; none, of a prefix.
    pub(super) offence: Option<u32>,
    pub(super) level: u8,
}

/// Adds a probe to what is remembered of its source; what changes by it, if anything does.
pub(super) fn find(state: &mut State, case: &Case, class: Class) -> Option<Finding> {
    let &Case { policy, seen, scope, tick, only_watched } = case;
    let (brake, vouchers, set_back) = (&state.brake, &state.vouchers, state.clock.set_back());
    // What turned a block down before is not asked again while it lasts: it would be reported at every packet.
    let admitted = |proven| {
        !only_watched
            && !brake.is_on(&policy.brake, scope, proven, tick.now)
            && vouchers.active(scope, tick.earlier()).is_none()
    };
    state.sources.update(scope, |source| {
        let released = !tick.is_outlier() && source.set_back(tick.now, set_back);
        source.expire(tick.at);
        source.forgive(tick.at, policy.block.forgive);
        let news = source.add(seen, tick.at, Classes::one(class), policy.retention()) || released;
        let before = source.conviction();
        // Evidence convicts until handshakes have convicted; and of a level, or of what holds a block back, also a
        // packet that is no news may be the last.
        let open = before.is_none_or(|before| !before.proven);
        let level_counts = policy.levels.watch > 0 || before.is_some_and(|before| before.watch_only);
        if !(level_counts || news && open) {
            return None;
        }
        let tally = Tally::of(source, scope, policy);
        let decision = if open { decide(policy, &tally) } else { None };
        // A conviction that could be forged is not made again; one by handshakes weighs more.
        let decision = decision.filter(|decision| before.is_none() || decision.proven);
        let proven = decision.as_ref().map(|decision| decision.proven).or(before.map(|before| before.proven));
        let offence = source.offences() + u32::from(!before.is_some_and(Conviction::is_offence));
        let level = level(&policy.levels, source.packets(), tally.all.distinct, proven, offence);
        let let_go = |before: Conviction| {
            before.watch_only && (source.level() < policy.levels.block || admitted(before.proven))
        };
        let change = if decision.is_some() {
            Change::Convicted
        } else if level >= policy.levels.block && before.is_some_and(let_go) {
            Change::Enforced
        } else if policy.levels.watch > 0 && level >= policy.levels.watch && level > source.level() {
            Change::Climbed
        } else {
            return None;
        };
        source.set_level(level);
        let decision = decision.unwrap_or_else(|| Decision {
            rule: "level".to_owned(),
            score: rounded(tally.all.score),
            proven: proven.unwrap_or(false),
            reason: format!("that makes it level {level}"),
            slow: false,
        });
        Some(Finding {
            change,
            rule: decision.rule,
            score: decision.score,
            proven: decision.proven,
            reason: decision.reason,
            contacts: tally.contacts(source, decision.slow).copied().collect(),
            offence: Some(offence),
            level,
        })
    })
}

/// Which rule convicts, and what it says of the evidence.
struct Decision {
    rule: String,
    score: f64,
    proven: bool,
    reason: String,
    /// It looked back beyond the window.
    slow: bool,
}

/// Whether the evidence convicts: first by handshakes alone, then by all of it.
fn decide(policy: &Policy, tally: &Tally) -> Option<Decision> {
    for (totals, proven) in [(&tally.proven, true), (&tally.all, false)] {
        if let Some(rule) = totals.first_touch.and_then(|n| policy.named.get(n)) {
            return Some(Decision {
                rule: rule.name.clone(),
                score: rounded(tally.all.score),
                proven,
                reason: format!("by the rule {} the first touch convicts", rule.name),
                slow: false,
            });
        }
        for rule in &policy.rules {
            if rule.evaluate(totals).convicts {
                return Some(Decision {
                    rule: rule.name().to_owned(),
                    score: rule.evaluate(&tally.all).score,
                    proven,
                    reason: rule.reason(),
                    slow: rule.is_slow(),
                });
            }
        }
    }
    None
}
