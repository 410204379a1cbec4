//! Which chains and rules there are, as the flags say, and what has to be done to what stands until it is so. Whatever
//! others wrote into a chain of ours stays there, unless the chain itself has to go. Pure: `ground.rs` reads and makes.

use std::collections::{BTreeMap, BTreeSet};

use super::sets::SetId;
use crate::reach::{Answer, Reach};

/// Before connection tracking: a packet that is dropped there costs least (linux/netfilter_ipv4.h).
const RAW: i32 = -300;

/// Behind connection tracking, which is at -200, and before all that rewrites addresses.
const TRACKED: i32 = -190;

/// Where in the kernel packets are looked at.
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

/// A chain of ours; it is named after its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Chain {
    pub(super) hook: Hook,
    /// Whether it stands behind connection tracking, and lets go on what is established.
    pub(super) tracked: bool,
}

/// A rule of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rule {
    pub(super) chain: Chain,
    pub(super) does: Does,
}

/// What it does; the order is that in which rules stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Does {
    /// TCP that begins nothing goes on: it belongs to what is established, or is answered with a reset. So connections that
    /// stood before anything was tracked are spared, too.
    SpareTcp,
    /// Connections that stand go on.
    Spare,
    /// What is in the set is dropped.
    Drop(SetId),
    /// TCP of what is in the set is reset.
    Reset(SetId),
    /// The rest is told that it is prohibited.
    Refuse(SetId),
}

impl Does {
    /// The set that it looks into.
    fn set(self) -> Option<SetId> {
        match self {
            Does::SpareTcp | Does::Spare => None,
            Does::Drop(set) | Does::Reset(set) | Does::Refuse(set) => Some(set),
        }
    }
}

/// What stands of our table besides its sets.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Standing {
    /// The chains with their priorities; `None`: the chain is at no hook, or at another one than it is named after.
    pub(super) chains: BTreeMap<Chain, Option<i32>>,
    /// The rules of ours with their handles.
    pub(super) rules: Vec<(Rule, u64)>,
}

/// What has to be done.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Work {
    pub(super) wrong_rules: Vec<(Chain, u64)>,
    pub(super) wrong_chains: Vec<Chain>,
    pub(super) chains: Vec<(Chain, i32)>,
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

    /// The hooks at which our chains stand.
    fn of(reach: Reach) -> impl Iterator<Item = Hook> {
        let ingress = if reach.forward { Hook::Prerouting } else { Hook::Input };
        let egress = if reach.forward { Hook::Postrouting } else { Hook::Output };
        [ingress].into_iter().chain(reach.egress.then_some(egress))
    }
}

impl Chain {
    /// All there may be.
    fn all() -> impl Iterator<Item = Chain> {
        Hook::ALL.into_iter().flat_map(|hook| [false, true].map(|tracked| Chain { hook, tracked }))
    }

    pub(super) fn name(self) -> String {
        format!("{}{}", self.hook.name(), if self.tracked { "_tracked" } else { "" })
    }

    pub(super) fn from_name(name: &[u8]) -> Option<Chain> {
        Chain::all().find(|chain| chain.name().as_bytes() == name)
    }

    /// At which priority it stands. Where what is for this machine is told from what it forwards, connections are known
    /// already.
    fn priority(self) -> i32 {
        match self.hook {
            Hook::Prerouting | Hook::Output if self.tracked => TRACKED,
            _ => RAW,
        }
    }

    /// The chains that the rules for these sets stand in. The kernel tracks connections from the first one that asks for
    /// them: not before something is to be spared.
    fn of(reach: Reach, sets: &BTreeSet<SetId>) -> impl Iterator<Item = Chain> {
        let tracked: BTreeSet<bool> = sets.iter().map(|set| reach.spares(set.unproven)).collect();
        Hook::of(reach)
            .flat_map(move |hook| tracked.clone().into_iter().map(move |tracked| Chain { hook, tracked }))
    }
}

impl Rule {
    /// The rule that has to stand before this one: where both hold, the first decides.
    fn follows(self) -> Option<Rule> {
        match self.does {
            Does::Refuse(set) => Some(Rule { does: Does::Reset(set), ..self }),
            Does::SpareTcp | Does::Spare | Does::Drop(_) | Does::Reset(_) => None,
        }
    }

    /// The rules for these sets. The source is answered where it is shut out; what goes to it is only dropped.
    fn of(reach: Reach, sets: &BTreeSet<SetId>) -> BTreeSet<Rule> {
        let mut rules = BTreeSet::new();
        for chain in Chain::of(reach, sets) {
            let mut add = |does| rules.insert(Rule { chain, does });
            if chain.tracked {
                add(Does::SpareTcp);
                add(Does::Spare);
            }
            for set in sets.iter().filter(|set| reach.spares(set.unproven) == chain.tracked) {
                match reach.answer {
                    Answer::Reject if !chain.hook.is_egress() => {
                        add(Does::Reset(*set));
                        add(Does::Refuse(*set));
                    }
                    _ => _ = add(Does::Drop(*set)),
                }
            }
        }
        rules
    }
}

impl Standing {
    /// Whether something is done about all that is in these sets, wherever and whatever it is.
    pub(super) fn heeds(&self, sets: &BTreeSet<SetId>) -> bool {
        let heeded: BTreeSet<SetId> = self.rules.iter().filter_map(|(rule, _)| rule.does.set()).collect();
        sets.is_subset(&heeded)
    }
}

impl Work {
    /// What makes of what stands what the flags say, for all of `sets`, of which `missing` are not there.
    pub(super) fn new(
        reach: Reach,
        sets: &BTreeSet<SetId>,
        missing: &BTreeSet<SetId>,
        standing: &Standing,
    ) -> Self {
        let wanted: Vec<Chain> = Chain::of(reach, sets).collect();
        let at = |chain: Chain| standing.chains.get(&chain);
        let is_right = |chain: &Chain| at(*chain) == Some(&Some(chain.priority()));
        // A chain that somebody made beside ours has no rule of ours.
        let ours = |chain: Chain| standing.rules.iter().any(|(rule, _)| rule.chain == chain);
        let is_wrong = |chain: &Chain| {
            at(*chain).is_some() && !is_right(chain) && (wanted.contains(chain) || ours(*chain))
        };
        let is_stale = |chain: &Chain| !wanted.contains(chain) && ours(*chain);
        let wrong_chains: Vec<Chain> =
            Chain::all().filter(|chain| is_wrong(chain) || is_stale(chain)).collect();
        let mut rules = Rule::of(reach, sets);
        let mut wrong_rules = Vec::new();
        let mut before = BTreeSet::new();
        for (rule, handle) in standing.rules.iter().filter(|(rule, _)| !wrong_chains.contains(&rule.chain)) {
            let late = rule.follows().is_some_and(|first| !before.contains(&first));
            if late || !rules.remove(rule) && !Rule::of(reach, sets).contains(rule) {
                wrong_rules.push((rule.chain, *handle));
            }
            before.insert(*rule);
        }
        let chains = wanted.into_iter().filter(|chain| !is_right(chain));
        let chains = chains.map(|chain| (chain, chain.priority())).collect();
        Work { wrong_rules, wrong_chains, chains, sets: missing.clone(), rules }
    }

    /// Whether nothing has to be done.
    pub(super) fn is_done(&self) -> bool {
        *self == Work::default()
    }
}

#[cfg(test)]
mod tests;
