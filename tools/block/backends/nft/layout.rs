//! Which chains and rules there are, as the flags say, and what has to be done to what stands until it is so. Whatever
//! others wrote into a chain of ours stays there, unless the chain itself has to go. Pure: `ground.rs` reads and makes.

use std::collections::{BTreeMap, BTreeSet};

use super::ruleset::SetId;
use crate::extent::{Answer, Extent};

/// Before connection tracking: a packet that is dropped there costs least (linux/netfilter_ipv4.h).
const RAW: i32 = -300;

/// Behind connection tracking, which is at -200, and before all that rewrites addresses.
const TRACKED: i32 = -190;

/// Where in the kernel packets are looked at; a chain of ours is named after its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hook {
    /// All that comes in.
    Prerouting,
    /// What is for this machine.
    Input,
    /// What this machine sends.
    Output,
    /// All that goes out.
    Postrouting,
}

/// A rule of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rule {
    pub(super) hook: Hook,
    pub(super) does: Does,
}

/// What it does; the order is that in which rules stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Does {
    /// Connections that stand go on.
    Spare,
    /// What is in the set is dropped.
    Drop(SetId),
    /// TCP of what is in the set is reset.
    Reset(SetId),
    /// The rest is told that it is prohibited.
    Refuse(SetId),
}

/// What stands of our table besides its sets.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Standing {
    /// The chains with their priorities; `None`: the chain is at no hook, or at another one than it is named after.
    pub(super) chains: BTreeMap<Hook, Option<i32>>,
    /// The rules of ours with their handles.
    pub(super) rules: Vec<(Rule, u64)>,
}

/// What has to be done.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Work {
    pub(super) wrong_rules: Vec<(Hook, u64)>,
    pub(super) wrong_chains: Vec<Hook>,
    pub(super) chains: Vec<(Hook, i32)>,
    pub(super) sets: BTreeSet<SetId>,
    pub(super) rules: BTreeSet<Rule>,
}

impl Hook {
    const ALL: [Hook; 4] = [Hook::Prerouting, Hook::Input, Hook::Output, Hook::Postrouting];

    pub(super) fn name(self) -> &'static str {
        match self {
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
        }
    }

    pub(super) fn from_name(name: &[u8]) -> Option<Hook> {
        Hook::ALL.into_iter().find(|hook| hook.name().as_bytes() == name)
    }

    /// The kernel's number of it (linux/netfilter.h).
    pub(super) fn number(self) -> u32 {
        match self {
            Hook::Prerouting => 0,
            Hook::Input => 1,
            Hook::Output => 3,
            Hook::Postrouting => 4,
        }
    }

    /// Whether packets go to the source there, and do not come from it.
    pub(super) fn is_egress(self) -> bool {
        matches!(self, Hook::Output | Hook::Postrouting)
    }

    /// At which priority our chain stands there. Where what is for this machine is told from what it forwards,
    /// connections are known already.
    fn priority(self, extent: Extent) -> i32 {
        match self {
            Hook::Prerouting | Hook::Output if extent.spares() => TRACKED,
            _ => RAW,
        }
    }

    /// The hooks at which our chains stand.
    fn of(extent: Extent) -> impl Iterator<Item = Hook> {
        let ingress = if extent.forward { Hook::Prerouting } else { Hook::Input };
        let egress = if extent.forward { Hook::Postrouting } else { Hook::Output };
        [ingress].into_iter().chain(extent.egress.then_some(egress))
    }
}

impl Rule {
    /// The rules for these sets. The source is answered where it is shut out; what goes to it is only dropped.
    fn of(extent: Extent, sets: &BTreeSet<SetId>) -> BTreeSet<Rule> {
        let mut rules = BTreeSet::new();
        for hook in Hook::of(extent) {
            if extent.spares() {
                rules.insert(Rule { hook, does: Does::Spare });
            }
            for set in sets {
                match extent.answer {
                    Answer::Reject if !hook.is_egress() => {
                        rules.insert(Rule { hook, does: Does::Reset(*set) });
                        rules.insert(Rule { hook, does: Does::Refuse(*set) });
                    }
                    _ => _ = rules.insert(Rule { hook, does: Does::Drop(*set) }),
                }
            }
        }
        rules
    }
}

impl Work {
    /// What makes of what stands what the flags say, for all of `sets`, of which `missing` are not there.
    pub(super) fn new(
        extent: Extent,
        sets: &BTreeSet<SetId>,
        missing: &BTreeSet<SetId>,
        standing: &Standing,
    ) -> Self {
        let hooks: Vec<Hook> = Hook::of(extent).collect();
        let at = |hook: Hook| standing.chains.get(&hook);
        let is_right = |hook: &Hook| at(*hook) == Some(&Some(hook.priority(extent)));
        // A chain that somebody made beside ours has no rule of ours.
        let ours = |hook: Hook| standing.rules.iter().any(|(rule, _)| rule.hook == hook);
        let is_wrong =
            |hook: &Hook| at(*hook).is_some() && !is_right(hook) && (hooks.contains(hook) || ours(*hook));
        let is_stale = |hook: &Hook| !hooks.contains(hook) && ours(*hook);
        let wrong_chains: Vec<Hook> =
            Hook::ALL.into_iter().filter(|hook| is_wrong(hook) || is_stale(hook)).collect();
        let mut rules = Rule::of(extent, sets);
        let mut wrong_rules = Vec::new();
        for (rule, handle) in standing.rules.iter().filter(|(rule, _)| !wrong_chains.contains(&rule.hook)) {
            if !rules.remove(rule) && !Rule::of(extent, sets).contains(rule) {
                wrong_rules.push((rule.hook, *handle));
            }
        }
        let chains = hooks.into_iter().filter(|hook| !is_right(hook));
        let chains = chains.map(|hook| (hook, hook.priority(extent))).collect();
        Work { wrong_rules, wrong_chains, chains, sets: missing.clone(), rules }
    }

    /// Whether nothing has to be done.
    pub(super) fn is_done(&self) -> bool {
        *self == Work::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extent;

    const SET: SetId = SetId::FIRST[0];

    /// What stands when the work of these flags is done.
    fn made(extent: Extent) -> Standing {
        let work = Work::new(extent, &[SET].into(), &[SET].into(), &Standing::default());
        let chains = work.chains.into_iter().map(|(hook, priority)| (hook, Some(priority))).collect();
        Standing { chains, rules: work.rules.into_iter().zip(1..).collect() }
    }

    fn after(extent: Extent, standing: &Standing) -> Work {
        Work::new(extent, &[SET].into(), &BTreeSet::new(), standing)
    }

    fn extents() -> Vec<Extent> {
        let mut extents = vec![Extent::default()];
        let reject = |extent| Extent { answer: Answer::Reject, ..extent };
        let local = |extent| Extent { forward: false, ..extent };
        let egress = |extent| Extent { egress: true, ..extent };
        let spare = |extent| Extent { standing: extent::Standing::Spared, ..extent };
        for change in [&reject as &dyn Fn(Extent) -> Extent, &local, &egress, &spare] {
            extents.extend(extents.clone().into_iter().map(change));
        }
        extents
    }

    #[test]
    fn whatever_flags_made_what_stands_becomes_what_other_flags_say() {
        for before in extents() {
            for now in extents() {
                let (old, new) = (made(before), made(now));
                let work = after(now, &old);
                assert_eq!(work.is_done(), old == new, "{before:?} {now:?}");
                // As nft would do it.
                let mut rules: BTreeSet<Rule> = old
                    .rules
                    .iter()
                    .filter(|(rule, handle)| {
                        !work.wrong_chains.contains(&rule.hook)
                            && !work.wrong_rules.contains(&(rule.hook, *handle))
                    })
                    .map(|(rule, _)| *rule)
                    .collect();
                rules.extend(work.rules);
                let mut chains = old.chains.clone();
                work.wrong_chains.iter().for_each(|hook| _ = chains.remove(hook));
                chains.extend(work.chains.into_iter().map(|(hook, priority)| (hook, Some(priority))));
                assert_eq!(rules, new.rules.iter().map(|(rule, _)| *rule).collect(), "{before:?} {now:?}");
                assert_eq!(chains, new.chains, "{before:?} {now:?}");
            }
        }
    }

    #[test]
    fn what_others_made_beside_it_stays() {
        let mut standing = made(Extent::default());
        standing.chains.insert(Hook::Input, Some(0));
        assert!(after(Extent::default(), &standing).is_done());
        // A rule twice is no reason to take one away.
        standing.rules.push((standing.rules[0].0, 9));
        assert!(after(Extent::default(), &standing).is_done());
    }

    #[test]
    fn a_chain_that_is_at_no_hook_is_made_anew() {
        let mut standing = made(Extent::default());
        standing.chains.insert(Hook::Prerouting, None);
        let work = after(Extent::default(), &standing);
        assert_eq!((work.wrong_chains.len(), work.chains.len(), work.rules.len()), (1, 1, 1));
    }
}
