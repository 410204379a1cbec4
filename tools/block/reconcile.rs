//! What has to be done on a backend until what is there is what is wanted. Pure: everything is given, nothing is done.
//!
//! Golden cases in `tests/cases/reconcile` show it: what is wanted, what is there, and the operations.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use psentry_records::{Prefix, Timestamp};

use crate::backend::{Caps, Op};
use crate::block::{Block, Entry};
use crate::desired::Desired;

/// How far an end may be from the wanted one: the kernel's clock and ours are not the same, and notes have whole seconds.
pub(crate) const SLACK: Duration = Duration::from_secs(2);

/// What is there on a backend, as far as the engine knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Actual {
    /// What is confirmed, or was listed.
    pub(crate) entries: HashMap<Prefix, Entry>,
    /// Of these nobody knows whether they are there: a command failed half-way. Only where the backend cannot list.
    pub(crate) unsure: HashSet<Prefix>,
}

impl Actual {
    /// The scopes of which something is there, or may be.
    pub(crate) fn scopes(&self) -> impl Iterator<Item = Prefix> {
        self.entries.keys().chain(&self.unsure).copied()
    }

    /// Nothing of a scope is there any more; whether anything was, or may have been.
    pub(crate) fn forget(&mut self, scope: Prefix) -> bool {
        self.entries.remove(&scope).is_some() | self.unsure.remove(&scope)
    }

    /// Whether anything of a scope is there, or may be.
    pub(crate) fn may_have(&self, scope: Prefix) -> bool {
        self.entries.contains_key(&scope) || self.unsure.contains(&scope)
    }
}

/// How a scope is wanted on a backend: one that cannot spare established connections does not take what is not proven.
pub(crate) fn wanted_there<'a>(
    scope: Prefix,
    desired: &'a Desired,
    caps: &Caps,
    now: Timestamp,
) -> Option<&'a Block> {
    desired.get(scope).filter(|block| !block.is_over(now) && caps.takes(block))
}

/// What has to be done about one scope.
pub(crate) fn plan(
    scope: Prefix,
    desired: &Desired,
    actual: &Actual,
    caps: &Caps,
    now: Timestamp,
) -> Option<Op> {
    let (there, unsure) = (actual.entries.get(&scope), actual.unsure.contains(&scope));
    match wanted_there(scope, desired, caps, now) {
        Some(block) if !unsure && there.is_some_and(|entry| entry.is(block, SLACK)) => None,
        Some(block) => Some(Op::Put { scope, block: block.clone(), was: there.cloned() }),
        None if unsure => Some(Op::Delete { scope, was: there.map(Block::from).unwrap_or_default() }),
        None => {
            let entry = there?;
            // The kernel has ended it by now, or does so in this moment.
            let ended = caps.expires && !entry.damaged && entry.until.is_some_and(|until| until <= now);
            (!ended).then(|| Op::Delete { scope, was: Block::from(entry) })
        }
    }
}

/// What has to be done on a backend, deletions first, each in the order of scopes.
pub(crate) fn reconcile(desired: &Desired, actual: &Actual, caps: &Caps, now: Timestamp) -> Vec<Op> {
    let scopes: HashSet<Prefix> = desired.iter().map(|(scope, _)| scope).chain(actual.scopes()).collect();
    let mut ops: Vec<Op> =
        scopes.into_iter().filter_map(|scope| plan(scope, desired, actual, caps, now)).collect();
    ops.sort_unstable_by_key(|op| (op.block().is_some(), op.scope()));
    ops
}

#[cfg(test)]
mod tests;
