//! Operations as commands of iptables, by what is there; and what is there as blocks. Reads and writes text, runs nothing.

use std::collections::BTreeMap;

use psentry_records::Prefix;

use super::super::rule_text::{Rule, Rules};
use super::block_rules::{entry, rules_of};
use super::chains::CHAINS;
use crate::backend::Op;
use crate::block::{Block, Entry};
use crate::reach::Reach;

/// The rules of our chains by whom they block, each with its chain.
pub(super) type ByScope<'a> = BTreeMap<Prefix, Vec<(&'static str, &'a Rule)>>;

pub(super) fn by_scope(rules: &Rules) -> ByScope<'_> {
    let mut scopes = ByScope::new();
    for chain in CHAINS {
        for rule in rules.chain(chain) {
            if let Some(scope) = rule.scope() {
                scopes.entry(scope).or_default().push((chain, rule));
            }
        }
    }
    scopes
}

/// The commands of one operation.
pub(super) fn commands(reach: Reach, rules: &ByScope<'_>, op: &Op) -> Vec<String> {
    diff(reach, rules, op.scope(), op.block())
}

/// The commands that make `block` all there is of a scope.
fn diff(reach: Reach, rules: &ByScope<'_>, scope: Prefix, block: Option<&Block>) -> Vec<String> {
    let present = rules.get(&scope).map_or(&[][..], Vec::as_slice);
    let mut commands = Vec::new();
    for chain in CHAINS {
        let old: Vec<&Rule> = present.iter().filter(|(of, _)| *of == chain).map(|(_, rule)| *rule).collect();
        let wanted = block.map_or_else(Vec::new, |block| rules_of(reach, chain, scope, block));
        if old.len() != wanted.len() || !old.iter().zip(&wanted).all(|(rule, wanted)| rule.is(wanted)) {
            // The new ones first, and -D deletes the first that is the same, which is an old one.
            commands.extend(wanted.iter().map(|rule| format!("-A {chain} {rule}")));
            commands.extend(old.iter().map(|rule| rule.deletion()));
        }
    }
    commands
}

/// The blocks that rules are, one for each scope. One is damaged that is not made of exactly the rules that a block like it
/// has: some are missing, or were made by other flags.
pub(super) fn entries(reach: Reach, rules: &ByScope<'_>) -> Vec<Entry> {
    let of = |(scope, present): (&Prefix, &Vec<(&'static str, &Rule)>)| {
        let read = present.iter().filter_map(|(chain, rule)| entry(chain, rule));
        let joined = read.reduce(|a, b| a.joined(&b));
        // A rule of somebody else's, which is deleted.
        let Some(joined) = joined else { return Entry { damaged: true, ..Entry::new(*scope, None, None) } };
        let damaged = !diff(reach, rules, *scope, Some(&Block::from(&joined))).is_empty();
        Entry { damaged, ..joined }
    };
    rules.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reach::Answer;

    const SCOPE: &str = "192.0.2.7";

    fn put(block: &Block) -> Op {
        Op::Put { scope: SCOPE.parse().unwrap(), block: block.clone(), was: None }
    }

    fn blocks() -> Vec<Block> {
        let until = "2026-11-22T15:04:05Z".parse().ok();
        let whole = Block { until, rule: Some("fan".to_owned()), ..Block::default() };
        let unproven = Block { unproven: true, ..whole.clone() };
        let ports = Block { ports: (1..=16).collect(), ..whole.clone() };
        vec![whole, unproven, Block { unproven: true, ..ports.clone() }, ports]
    }

    #[test]
    fn whatever_was_there_only_the_block_is_there_afterwards() {
        let reject = Reach { answer: Answer::Reject, egress: true, ..Reach::default() };
        for reach in [Reach::default(), reject] {
            for (first, second) in
                blocks().iter().flat_map(|a| blocks().into_iter().map(move |b| (a.clone(), b)))
            {
                let mut rules = Rules::default();
                rules.run(&commands(reach, &by_scope(&rules), &put(&first)));
                rules.run(&commands(reach, &by_scope(&rules), &put(&second)));
                let found = entries(reach, &by_scope(&rules));
                assert_eq!(found, [second.entry(SCOPE.parse().unwrap())], "{first:?}");
                assert!(commands(reach, &by_scope(&rules), &put(&second)).is_empty());
                let scope = SCOPE.parse().unwrap();
                rules.run(&commands(reach, &by_scope(&rules), &Op::Delete { scope, was: second }));
                assert!(by_scope(&rules).is_empty());
            }
        }
    }

    #[test]
    fn what_is_half_there_or_made_by_other_flags_is_damaged() {
        let reject = Reach { answer: Answer::Reject, ..Reach::default() };
        let mut rules = Rules::default();
        rules.run(&commands(reject, &by_scope(&rules), &put(&blocks()[0])));
        let damaged = |reach, rules: &Rules| entries(reach, &by_scope(rules))[0].damaged;
        assert!(!damaged(reject, &rules) && damaged(Reach::default(), &rules));
        let first = rules.chain("PSENTRY").next().unwrap().deletion();
        rules.run(&[first]);
        assert!(damaged(reject, &rules));
        // What somebody else put there.
        let other = Rules::read("-A PSENTRY -s 192.0.2.8/32 -j ACCEPT\n");
        let entry = &entries(reject, &by_scope(&other))[0];
        assert!(entry.damaged && entry.scope == "192.0.2.8".parse().unwrap());
    }
}
