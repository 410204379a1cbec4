//! Whatever ruleset there is becomes what the flags ask for.

use super::*;
use crate::reach::Established;

const SET: SetId = SetId::FIRST[0];
const UNPROVEN: SetId = SetId { unproven: true, ..SET };

fn found((rule, handle): (Rule, u64)) -> FoundRule {
    FoundRule { chain: rule.chain, handle, action: Some(rule.action) }
}

fn ours(rule: &FoundRule) -> Rule {
    rule.ours().unwrap()
}

/// The ruleset that these flags make.
fn made(reach: Reach) -> Ruleset {
    made_for(reach, &[SET].into())
}

fn made_for(reach: Reach, sets: &BTreeSet<SetId>) -> Ruleset {
    let plan = Plan::new(reach, sets, sets, &Ruleset::default());
    let chains = plan.add_chains.iter().map(|chain| (chain.name(), true)).collect();
    let rules = plan.add_rules.into_iter().zip(1..).map(found).collect();
    Ruleset { chains, rules, ..Ruleset::default() }
}

fn after(reach: Reach, ruleset: &Ruleset) -> Plan {
    Plan::new(reach, &[SET].into(), &BTreeSet::new(), ruleset)
}

fn reaches() -> Vec<Reach> {
    let mut reaches = vec![Reach::default()];
    let reject = |reach| Reach { answer: Answer::Reject, ..reach };
    let local = |reach| Reach { forward: false, ..reach };
    let egress = |reach| Reach { egress: true, ..reach };
    let spare = |reach| Reach { established: Established::Spared, ..reach };
    for change in [&reject as &dyn Fn(Reach) -> Reach, &local, &egress, &spare] {
        reaches.extend(reaches.clone().into_iter().map(change));
    }
    reaches
}

#[test]
fn what_other_flags_made_becomes_what_these_flags_say() {
    for before in reaches() {
        for now in reaches() {
            let (old, new) = (made(before), made(now));
            let plan = after(now, &old);
            assert_eq!(plan.is_empty(), old == new, "{before:?} {now:?}");
            // As nft would do it.
            let mut rules: BTreeSet<Rule> = old
                .rules
                .iter()
                .filter(|rule| {
                    !plan.delete_chains.contains(&rule.chain.name())
                        && !plan.delete_rules.contains(&(rule.chain, rule.handle))
                })
                .map(ours)
                .collect();
            rules.extend(plan.add_rules);
            let mut chains = old.chains.clone();
            plan.delete_chains.iter().for_each(|chain| _ = chains.remove(chain));
            chains.extend(plan.add_chains.iter().map(|chain| (chain.name(), true)));
            assert_eq!(rules, new.rules.iter().map(ours).collect(), "{before:?} {now:?}");
            assert_eq!(chains, new.chains, "{before:?} {now:?}");
        }
    }
}

#[test]
fn what_others_made_in_the_table_is_deleted() {
    let mut ruleset = made(Reach::default());
    // A rule twice is no reason to take one away.
    ruleset.rules.push(FoundRule { handle: 9, ..ruleset.rules[0] });
    assert!(after(Reach::default(), &ruleset).is_empty());
    let chain = Chain { hook: Hook::Input, tracked: false };
    ruleset.rules.push(FoundRule { chain, handle: 8, action: None });
    ruleset.chains.extend([("early".to_owned(), false), (chain.name(), true)]);
    ruleset.wrong_sets.insert("v4_31".to_owned());
    let want = Plan {
        delete_chains: ["early".to_owned(), chain.name()].into(),
        delete_sets: ["v4_31".to_owned()].into(),
        ..Plan::default()
    };
    assert_eq!(after(Reach::default(), &ruleset), want);
}

#[test]
fn a_rule_of_others_in_a_chain_of_ours_is_deleted() {
    let ruleset = made(Reach::default());
    for before in 0..=ruleset.rules.len() {
        let chain = ruleset.rules[0].chain;
        let mut ruleset = ruleset.clone();
        ruleset.rules.insert(before, FoundRule { chain, handle: 9, action: None });
        let want = Plan { delete_rules: vec![(chain, 9)], ..Plan::default() };
        assert_eq!(after(Reach::default(), &ruleset), want);
    }
}

#[test]
fn the_first_block_that_is_not_proven_brings_its_chain_and_the_last_set_takes_it_along() {
    let (without, with) = (made(Reach::default()), made_for(Reach::default(), &[SET, UNPROVEN].into()));
    let plan = Plan::new(Reach::default(), &[SET, UNPROVEN].into(), &[UNPROVEN].into(), &without);
    assert_eq!((plan.delete_chains.len(), plan.add_chains.len(), plan.add_rules.len()), (0, 1, 3));
    let plan = after(Reach::default(), &with);
    assert_eq!(plan.delete_chains, ["prerouting_tracked".to_owned()].into());
    // Where all is spared, one chain is enough.
    let spares = Reach { established: Established::Spared, ..Reach::default() };
    assert_eq!(made_for(spares, &[SET, UNPROVEN].into()).chains.len(), 1);
}

#[test]
fn a_chain_that_is_at_no_hook_is_made_anew() {
    let mut ruleset = made(Reach::default());
    ruleset.chains.insert("prerouting".to_owned(), false);
    let plan = after(Reach::default(), &ruleset);
    assert_eq!((plan.delete_chains.len(), plan.add_chains.len(), plan.add_rules.len()), (1, 1, 1));
}
