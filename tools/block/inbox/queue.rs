//! The changes that wait, in their order. Without a lock, and waits for nothing.

use std::collections::{BTreeMap, HashMap, HashSet};

use psentry_records::{Action, Common, OutcomeResult, Prefix, Timestamp};

use crate::backend::{Block, Wish};
use crate::panic::Mark;

/// How many verdicts for one scope are answered one by one when the backend is that far behind; of more, the
/// newest ones are.
pub(super) const ANSWERS: usize = 16;

/// A change that waits, and the verdicts that are to be answered when it is made.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pending {
    pub(crate) wish: Wish,
    pub(crate) asks: Vec<Ask>,
    /// What should stand, by the ledger, already or from now on; then the wish is what the verdict alone would make.
    pub(crate) already: Option<Block>,
}

/// A verdict that waits for its outcome.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ask {
    pub(crate) common: Common,
    pub(crate) action: Action,
    /// What it is answered when all goes well.
    pub(crate) well: OutcomeResult,
    /// The last panic when it was taken in; it does not outlast the next one.
    pub(crate) mark: Mark,
}

/// At most one change for each scope.
#[derive(Default)]
pub(super) struct Queue {
    scopes: HashMap<Prefix, Pending>,
    /// Their order; who waits keeps his place.
    order: BTreeMap<u64, Prefix>,
    count: u64,
}

impl Queue {
    /// Puts a change in, in place of what waits for the same scope. What should stand `already` never replaces what
    /// is to make it stand.
    pub(super) fn put(&mut self, scope: Prefix, wish: Wish, already: Option<Block>, ask: Ask) {
        let pending = self.scopes.entry(scope).or_insert_with(|| {
            self.count += 1;
            self.order.insert(self.count, scope);
            Pending { wish: wish.clone(), asks: Vec::new(), already: already.clone() }
        });
        match (&pending.wish, wish) {
            (_, wish) if already.is_none() => {
                pending.wish = wish;
                pending.already = None;
            }
            // Each may shut what the other does not.
            (Wish::Block(waits), Wish::Block(new)) => {
                pending.wish = Wish::Block(waits.joined(&new));
                pending.already = pending.already.take().and(already);
            }
            (_, wish) if pending.already.is_some() => {
                pending.wish = wish;
                pending.already = already;
            }
            _ => {}
        }
        if pending.asks.len() >= ANSWERS {
            pending.asks.remove(0);
        }
        pending.asks.push(ask);
    }

    /// Takes out at most `most`, the first ones that are not `busy`.
    pub(super) fn pick(&mut self, most: usize, busy: impl Fn(Prefix) -> bool) -> Vec<(Prefix, Pending)> {
        let free = self.order.iter().filter(|(_, scope)| !busy(**scope));
        let places: Vec<(u64, Prefix)> = free.take(most).map(|(place, scope)| (*place, *scope)).collect();
        let mut taken = Vec::with_capacity(places.len());
        for (place, scope) in places {
            self.order.remove(&place);
            taken.extend(self.scopes.remove(&scope).map(|pending| (scope, pending)));
        }
        taken
    }

    /// How many scopes wait.
    pub(super) fn len(&self) -> usize {
        self.scopes.len()
    }

    /// The scopes that wait to be blocked, and those that wait to be let in.
    pub(super) fn wanted(&self, now: Timestamp) -> (HashSet<Prefix>, HashSet<Prefix>) {
        let over = |pending: &Pending| pending.wish.block().is_some_and(|block| block.is_over(now));
        let wanted = self.scopes.iter().filter(|(_, pending)| !over(pending));
        let (block, release): (Vec<_>, Vec<_>) =
            wanted.partition(|(_, pending)| pending.wish.block().is_some());
        let scopes = |some: Vec<(&Prefix, &Pending)>| some.into_iter().map(|(scope, _)| *scope).collect();
        (scopes(block), scopes(release))
    }

    /// The blocks that overlap `scope`, in the order of their scopes.
    pub(super) fn around(&self, scope: Prefix) -> Vec<(Prefix, Block)> {
        let held = self.scopes.iter().filter(|(other, _)| scope.overlaps(**other));
        let mut held: Vec<(Prefix, Block)> =
            held.filter_map(|(scope, pending)| Some((*scope, pending.wish.block()?.clone()))).collect();
        held.sort_unstable_by_key(|(scope, _)| *scope);
        held
    }

    /// Takes the blocks out, in the order of their scopes.
    pub(super) fn take_back(&mut self) -> BTreeMap<Prefix, Pending> {
        let blocks = self.scopes.extract_if(|_, pending| pending.wish.block().is_some()).collect();
        self.order.retain(|_, scope| self.scopes.contains_key(scope));
        blocks
    }
}
