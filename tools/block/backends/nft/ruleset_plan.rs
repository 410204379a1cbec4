//! Which chains and rules the flags ask for, and what has to be changed in a ruleset until it is so. The table is ours alone: chains
//! and sets that others made in it are deleted, and so are their rules in a chain of ours, for one that accepts would come before a
//! block. Pure: `ensure_ruleset.rs` reads and changes.

use std::collections::{BTreeMap, BTreeSet};

use super::set_id::SetId;
use crate::reach::{Answer, Reach};

/// Before connection tracking: a packet that is dropped there costs least (linux/netfilter_ipv4.h).
const RAW: i32 = -300;

/// Behind connection tracking, which is at -200, and before all that rewrites addresses.
const TRACKED: i32 = -190;

/// Where in the kernel a chain sees packets, with the kernel's number (linux/netfilter.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hook {
    /// All that comes in.
    Prerouting = 0,
    /// What is for this machine.
    Input = 1,
    /// What this machine sends.
    Output = 3,
    /// All that goes out.
    Postrouting = 4,
}

/// A chain of ours. It has the name of its hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Chain {
    pub(super) hook: Hook,
    /// Whether it is behind connection tracking, and accepts packets of established connections.
    pub(super) tracked: bool,
}

/// A rule of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rule {
    pub(super) chain: Chain,
    pub(super) action: Action,
}

/// What a rule of ours does, in the order of the rules of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Action {
    /// Accepts TCP that begins no connection: it belongs to an established one, or is answered with a reset. So connections are
    /// spared that were established before anything was tracked.
    SpareTcp,
    /// Accepts what belongs to established connections.
    Spare,
    /// Drops what is in the set.
    Drop(SetId),
    /// Resets TCP of what is in the set.
    Reset(SetId),
    /// Answers all else that is in the set by ICMP.
    Refuse(SetId),
}

/// A rule in a chain of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FoundRule {
    pub(super) chain: Chain,
    pub(super) handle: u64,
    /// What it does, if it is ours.
    pub(super) action: Option<Action>,
}

/// What there is of our table besides its sets.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Ruleset {
    /// All chains by their names, and whether each is one of ours with its hook and its priority.
    pub(super) chains: BTreeMap<String, bool>,
    /// The rules of chains that have a name of ours, those of a chain in their order.
    pub(super) rules: Vec<FoundRule>,
    /// Sets of others, and those under a name of ours that are not as ours are.
    pub(super) wrong_sets: BTreeSet<String>,
}

/// What has to be changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) delete_rules: Vec<(Chain, u64)>,
    pub(super) delete_chains: BTreeSet<String>,
    pub(super) delete_sets: BTreeSet<String>,
    pub(super) add_chains: Vec<Chain>,
    pub(super) add_sets: BTreeSet<SetId>,
    pub(super) add_rules: BTreeSet<Rule>,
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

    /// Whether packets go to the source there, and do not come from it.
    pub(super) fn is_egress(self) -> bool {
        matches!(self, Hook::Output | Hook::Postrouting)
    }

    /// The hooks of our chains.
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

    pub(super) fn from_name(name: &str) -> Option<Chain> {
        Chain::all().find(|chain| chain.name() == name)
    }

    /// Its priority. Input and postrouting are behind connection tracking anyway.
    pub(super) fn priority(self) -> i32 {
        match self.hook {
            Hook::Prerouting | Hook::Output if self.tracked => TRACKED,
            _ => RAW,
        }
    }

    /// The chains of the rules for these sets. The kernel tracks connections once a chain asks for them: not before something
    /// is to be spared.
    fn of(reach: Reach, sets: &BTreeSet<SetId>) -> impl Iterator<Item = Chain> {
        let tracked: BTreeSet<bool> = sets.iter().map(|set| reach.spares(set.unproven)).collect();
        Hook::of(reach)
            .flat_map(move |hook| tracked.clone().into_iter().map(move |tracked| Chain { hook, tracked }))
    }
}

impl Rule {
    /// The rules for these sets. Blocked sources are answered; what goes to them is only dropped.
    fn of(reach: Reach, sets: &BTreeSet<SetId>) -> BTreeSet<Rule> {
        let mut rules = BTreeSet::new();
        for chain in Chain::of(reach, sets) {
            let mut add = |action| rules.insert(Rule { chain, action });
            if chain.tracked {
                add(Action::SpareTcp);
                add(Action::Spare);
            }
            for set in sets.iter().filter(|set| reach.spares(set.unproven) == chain.tracked) {
                match reach.answer {
                    Answer::Reject if !chain.hook.is_egress() => {
                        add(Action::Reset(*set));
                        add(Action::Refuse(*set));
                    }
                    _ => _ = add(Action::Drop(*set)),
                }
            }
        }
        rules
    }
}

impl FoundRule {
    fn ours(&self) -> Option<Rule> {
        self.action.map(|action| Rule { chain: self.chain, action })
    }
}

impl Plan {
    /// What makes of a ruleset what the flags ask for, with all of `sets`, of which `missing` are not there.
    pub(super) fn new(
        reach: Reach,
        sets: &BTreeSet<SetId>,
        missing: &BTreeSet<SetId>,
        ruleset: &Ruleset,
    ) -> Self {
        let is_right = |chain: &Chain| ruleset.chains.get(&chain.name()) == Some(&true);
        let (kept, add_chains): (Vec<Chain>, Vec<Chain>) = Chain::of(reach, sets).partition(is_right);
        let mut delete_chains: BTreeSet<String> = ruleset.chains.keys().cloned().collect();
        delete_chains.retain(|name| !kept.iter().any(|chain| chain.name() == *name));
        let rules = Rule::of(reach, sets);
        let found = || ruleset.rules.iter().filter(|rule| kept.contains(&rule.chain));
        let is_wrong = |rule: &&FoundRule| rule.ours().is_none_or(|ours| !rules.contains(&ours));
        let delete_rules = found().filter(is_wrong).map(|rule| (rule.chain, rule.handle)).collect();
        let found: BTreeSet<Rule> = found().filter_map(FoundRule::ours).collect();
        let add_rules = rules.difference(&found).copied().collect();
        let (delete_sets, add_sets) = (ruleset.wrong_sets.clone(), missing.clone());
        Plan { delete_rules, delete_chains, delete_sets, add_chains, add_sets, add_rules }
    }

    /// Whether nothing has to be changed.
    pub(super) fn is_empty(&self) -> bool {
        *self == Plan::default()
    }
}

#[cfg(test)]
mod tests;
