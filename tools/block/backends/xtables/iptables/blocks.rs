//! Changes of blocks as commands of iptables. Writes text, runs nothing.

use std::collections::HashMap;

use psentry_records::Prefix;

use super::super::rules::{Rule, Rules};
use super::listed::{CHAINS, rules_of};
use crate::backend::{Block, Change, Effect, Entry, Wish};
use crate::reach::Reach;

/// Rules of our chains by the chain, and by whom they shut out.
pub(super) type ByScope<'a> = HashMap<(&'static str, Prefix), Vec<&'a Rule>>;

pub(super) fn by_scope(rules: &Rules) -> ByScope<'_> {
    let mut scopes: ByScope<'_> = HashMap::new();
    for chain in CHAINS {
        for rule in rules.chain(chain) {
            if let Some(scope) = rule.scope() {
                scopes.entry((chain, scope)).or_default().push(rule);
            }
        }
    }
    scopes
}

/// The changes that leave blocks as they stand.
pub(super) fn as_they_are(entries: &[Entry]) -> Vec<Change> {
    let block = |entry: &Entry| Change { scope: entry.scope, wish: Wish::Block(Block::from(entry)) };
    entries.iter().map(block).collect()
}

/// The commands that make changes of one family, on what stood when `rules` were read, and what they come to.
pub(super) fn commands<'a>(
    reach: Reach,
    rules: &ByScope<'_>,
    changes: impl IntoIterator<Item = &'a Change>,
) -> (Vec<String>, Vec<Effect>) {
    let (mut commands, mut effects) = (Vec::new(), Vec::new());
    for change in changes {
        let mut effect = Effect::WasNotThere;
        for chain in CHAINS {
            let old = rules.get(&(chain, change.scope)).map_or(&[][..], Vec::as_slice);
            let wanted = match &change.wish {
                Wish::Block(block) => rules_of(reach, chain, change.scope, block),
                Wish::Release(_) => Vec::new(),
            };
            if !wanted.is_empty() || !old.is_empty() {
                effect = Effect::Done;
            }
            if old.len() == wanted.len() && old.iter().zip(&wanted).all(|(rule, wanted)| rule.is(wanted)) {
                continue;
            }
            // The new ones first: inside one step nobody sees the difference, but the order costs nothing.
            commands.extend(wanted.iter().map(|rule| format!("-A {chain} {rule}")));
            commands.extend(old.iter().map(|rule| rule.deletion()));
        }
        effects.push(effect);
    }
    (commands, effects)
}
