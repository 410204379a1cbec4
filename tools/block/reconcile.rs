//! What has to be done on a backend until what is there is what is wanted. Pure: everything is given, nothing is done.
//!
//! Golden cases in `tests/cases/reconcile` show it: what is wanted, what is there, and the operations.

use std::collections::{HashMap, HashSet};

use psentry_records::{Prefix, Timestamp};

use crate::backend::{Caps, Op};
use crate::block::{Block, Entry};
use crate::desired::Desired;

/// What is there on a backend, as far as the engine knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Actual {
    /// What is confirmed, or was listed.
    pub(crate) entries: HashMap<Prefix, Entry>,
    /// Of these nobody knows whether they are there: a command failed half-way. Only where the backend cannot list.
    pub(crate) unsure: HashSet<Prefix>,
}

impl Actual {
    /// The scopes of which something is there, or may be, each once.
    pub(crate) fn scopes(&self) -> impl Iterator<Item = Prefix> {
        let unsure = self.unsure.iter().filter(|scope| !self.entries.contains_key(scope));
        self.entries.keys().chain(unsure).copied()
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
    Some(match difference(scope, desired, actual, caps, now)? {
        Difference::Put(block, was) => Op::Put { scope, block: block.clone(), was: was.cloned() },
        Difference::Delete(was) => Op::Delete { scope, was: was.map(Block::from).unwrap_or_default() },
    })
}

/// Whether anything has to be done about one scope.
pub(crate) fn differs(
    scope: Prefix,
    desired: &Desired,
    actual: &Actual,
    caps: &Caps,
    now: Timestamp,
) -> bool {
    difference(scope, desired, actual, caps, now).is_some()
}

/// The scopes about which something has to be done on a backend, deletions first, each in the order of scopes: [`plan`] says what.
pub(crate) fn reconcile(desired: &Desired, actual: &Actual, caps: &Caps, now: Timestamp) -> Vec<Prefix> {
    let unwanted = actual.scopes().filter(|scope| desired.get(*scope).is_none());
    let scopes = desired.iter().map(|(scope, _)| scope).chain(unwanted);
    let mut due: Vec<(bool, Prefix)> = scopes
        .filter_map(|scope| {
            let difference = difference(scope, desired, actual, caps, now)?;
            Some((matches!(difference, Difference::Put(..)), scope))
        })
        .collect();
    due.sort_unstable();
    due.into_iter().map(|(_, scope)| scope).collect()
}

/// How what is there differs from what is wanted: this is wanted, and something else or nothing is there; or this is there, or may
/// be, and is not wanted.
enum Difference<'a> {
    Put(&'a Block, Option<&'a Entry>),
    Delete(Option<&'a Entry>),
}

fn difference<'a>(
    scope: Prefix,
    desired: &'a Desired,
    actual: &'a Actual,
    caps: &Caps,
    now: Timestamp,
) -> Option<Difference<'a>> {
    let (there, unsure) = (actual.entries.get(&scope), actual.unsure.contains(&scope));
    match wanted_there(scope, desired, caps, now) {
        Some(block) if !unsure && there.is_some_and(|entry| entry.is(block)) => None,
        Some(block) => Some(Difference::Put(block, there)),
        None if unsure => Some(Difference::Delete(there)),
        None => {
            let entry = there?;
            // The kernel has ended it by now, or does so in this moment.
            let ended = caps.expires && !entry.damaged && entry.until.is_some_and(|until| until <= now);
            (!ended).then_some(Difference::Delete(there))
        }
    }
}

#[cfg(test)]
mod tests;
