//! What stands, whatever made it, becomes what the flags say.

use super::*;
use crate::reach;

const SET: SetId = SetId::FIRST[0];
const UNPROVEN: SetId = SetId { unproven: true, ..SET };

/// What stands when the work of these flags is done.
fn made(reach: Reach) -> Standing {
    made_for(reach, &[SET].into())
}

fn made_for(reach: Reach, sets: &BTreeSet<SetId>) -> Standing {
    let work = Work::new(reach, sets, sets, &Standing::default());
    let chains = work.chains.into_iter().map(|(chain, priority)| (chain, Some(priority))).collect();
    Standing { chains, rules: work.rules.into_iter().zip(1..).collect() }
}

fn after(reach: Reach, standing: &Standing) -> Work {
    Work::new(reach, &[SET].into(), &BTreeSet::new(), standing)
}

fn extents() -> Vec<Reach> {
    let mut extents = vec![Reach::default()];
    let reject = |reach| Reach { answer: Answer::Reject, ..reach };
    let local = |reach| Reach { forward: false, ..reach };
    let egress = |reach| Reach { egress: true, ..reach };
    let spare = |reach| Reach { standing: reach::Standing::Spared, ..reach };
    for change in [&reject as &dyn Fn(Reach) -> Reach, &local, &egress, &spare] {
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
                    !work.wrong_chains.contains(&rule.chain)
                        && !work.wrong_rules.contains(&(rule.chain, *handle))
                })
                .map(|(rule, _)| *rule)
                .collect();
            rules.extend(work.rules);
            let mut chains = old.chains.clone();
            work.wrong_chains.iter().for_each(|chain| _ = chains.remove(chain));
            chains.extend(work.chains.into_iter().map(|(chain, priority)| (chain, Some(priority))));
            assert_eq!(rules, new.rules.iter().map(|(rule, _)| *rule).collect(), "{before:?} {now:?}");
            assert_eq!(chains, new.chains, "{before:?} {now:?}");
        }
    }
}

#[test]
fn what_others_made_beside_it_stays() {
    let mut standing = made(Reach::default());
    standing.chains.insert(Chain { hook: Hook::Input, tracked: false }, Some(0));
    assert!(after(Reach::default(), &standing).is_done());
    // A rule twice is no reason to take one away.
    standing.rules.push((standing.rules[0].0, 9));
    assert!(after(Reach::default(), &standing).is_done());
}

#[test]
fn a_refusal_before_its_reset_is_made_anew_behind_it() {
    let reject = Reach { answer: Answer::Reject, ..Reach::default() };
    let whole = made(reject);
    let [(reset, _), (refuse, at)] = whole.rules[..] else { panic!("{whole:?}") };
    for rules in [vec![(refuse, at)], vec![(refuse, at), (reset, 9)]] {
        let alone = rules.len() == 1;
        let work = after(reject, &Standing { rules, ..whole.clone() });
        assert_eq!(work.wrong_rules, [(refuse.chain, at)]);
        assert_eq!(work.rules, if alone { [reset, refuse].into() } else { BTreeSet::from([refuse]) });
    }
    // Behind a reset of its own a second one does no harm.
    let mut twice = whole.clone();
    twice.rules.push((refuse, 9));
    assert!(after(reject, &twice).is_done());
}

#[test]
fn what_is_shut_by_the_rules_of_others_is_told_from_what_nothing_shuts() {
    let other = Reach { answer: Answer::Reject, forward: false, ..Reach::default() };
    assert!(made(other).heeds(&[SET].into()));
    assert!(!made(other).heeds(&SetId::FIRST.into()), "only one of them has a rule");
    let spares = Reach { standing: reach::Standing::Spared, ..Reach::default() };
    let mut flushed = made(spares);
    flushed.rules.truncate(2);
    assert!(!flushed.heeds(&[SET].into()), "what lets through shuts nobody out");
}

#[test]
fn the_first_block_that_is_not_proven_brings_its_chain_and_the_last_set_takes_it_along() {
    let (without, with) = (made(Reach::default()), made_for(Reach::default(), &[SET, UNPROVEN].into()));
    let work = Work::new(Reach::default(), &[SET, UNPROVEN].into(), &[UNPROVEN].into(), &without);
    assert_eq!((work.wrong_chains.len(), work.chains.len(), work.rules.len()), (0, 1, 3));
    let work = after(Reach::default(), &with);
    assert_eq!(work.wrong_chains, [Chain { hook: Hook::Prerouting, tracked: true }]);
    // Where all is spared, one chain is enough.
    let spares = Reach { standing: reach::Standing::Spared, ..Reach::default() };
    assert_eq!(made_for(spares, &[SET, UNPROVEN].into()).chains.len(), 1);
}

#[test]
fn a_chain_that_is_at_no_hook_is_made_anew() {
    let mut standing = made(Reach::default());
    standing.chains.insert(Chain { hook: Hook::Prerouting, tracked: false }, None);
    let work = after(Reach::default(), &standing);
    assert_eq!((work.wrong_chains.len(), work.chains.len(), work.rules.len()), (1, 1, 1));
}
