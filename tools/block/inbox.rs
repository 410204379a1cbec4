//! What waits for one backend: at most one change for a scope, the latest, so that a slow backend never holds up
//! reading, and what waits is bounded by the number of scopes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use psentry_records::{Action, Common, OutcomeResult, Prefix, Timestamp};

use crate::backend::{Block, Wish};

/// How many verdicts for one scope are answered one by one when the backend is that far behind; of more, the
/// newest ones are.
const ANSWERS: usize = 16;

/// The longest nap: a clock that was set is noticed that soon.
const NAP: Duration = Duration::from_secs(15);

/// What waits.
#[derive(Default)]
pub(crate) struct Inbox {
    state: Mutex<Waiting>,
    bell: Condvar,
}

#[derive(Default)]
struct Waiting {
    scopes: HashMap<Prefix, Pending>,
    /// Their order; who waits keeps his place.
    order: BTreeMap<u64, Prefix>,
    count: u64,
    finish: Option<Finish>,
    found: Vec<Found>,
}

/// What the backend found that the ledger does not know: the scope was let in by somebody.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found {
    pub(crate) scope: Prefix,
    /// As the ledger believed it to stand.
    pub(crate) was: Block,
    /// As it stands now.
    pub(crate) is: Block,
}

/// A change that waits, and the verdicts that are to be answered when it is made.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pending {
    pub(crate) wish: Wish,
    pub(crate) asks: Vec<Ask>,
    /// What should stand already, by the ledger; then the wish is what the verdict alone would make.
    pub(crate) already: Option<Block>,
}

/// A verdict that waits for its outcome.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ask {
    pub(crate) common: Common,
    pub(crate) action: Action,
    /// What it is answered when all goes well.
    pub(crate) well: OutcomeResult,
}

/// How the work ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// The input has ended: stay as long as a block needs this clock.
    Ended,
    /// Stop; blocks that the kernel ends stand.
    Stop,
    /// Stop, and take every trace away.
    Remove,
}

impl Inbox {
    /// Puts a change in, in place of what waits for the same scope. What should stand `already` never replaces what
    /// is to make it stand.
    pub(crate) fn put(&self, scope: Prefix, wish: Wish, already: Option<Block>, ask: Ask) {
        let mut guard = self.lock();
        let waiting = &mut *guard;
        let pending = waiting.scopes.entry(scope).or_insert_with(|| {
            waiting.count += 1;
            waiting.order.insert(waiting.count, scope);
            Pending { wish: wish.clone(), asks: Vec::new(), already: already.clone() }
        });
        let shorter = match (&pending.wish, &wish) {
            (Wish::Block(waits), Wish::Block(new)) => already.is_some() && waits.outlasts(new.until),
            _ => false,
        };
        if already.is_none() || (pending.already.is_some() && !shorter) {
            pending.wish = wish;
            pending.already = already;
        }
        if pending.asks.len() >= ANSWERS {
            pending.asks.remove(0);
        }
        pending.asks.push(ask);
        drop(guard);
        self.bell.notify_one();
    }

    /// Takes note of what the ledger should know.
    pub(crate) fn tell(&self, found: Found) {
        self.lock().found.push(found);
    }

    /// What the ledger should know.
    pub(crate) fn found(&self) -> Vec<Found> {
        std::mem::take(&mut self.lock().found)
    }

    /// How many scopes wait.
    pub(crate) fn len(&self) -> usize {
        self.lock().scopes.len()
    }

    /// Says that nothing more comes.
    pub(crate) fn finish(&self, finish: Finish) {
        self.lock().finish = Some(finish);
        self.bell.notify_one();
    }

    /// At most `most` of what waits, in the order in which it came, and once nothing waits any more whether to
    /// finish; waits for something to come, but not beyond `deadline`.
    pub(crate) fn take(
        &self,
        most: usize,
        deadline: Option<Timestamp>,
        known: Option<Finish>,
    ) -> (Vec<(Prefix, Pending)>, Option<Finish>) {
        let mut guard = self.lock();
        if guard.scopes.is_empty() && guard.finish == known {
            let nap = deadline.map_or(NAP, |deadline| deadline.since(Timestamp::now()).min(NAP));
            if !nap.is_zero() {
                guard = self.bell.wait_timeout(guard, nap).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        let waiting = &mut *guard;
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some((_, scope)) = waiting.order.pop_first()
        {
            taken.extend(waiting.scopes.remove(&scope).map(|pending| (scope, pending)));
        }
        (taken, waiting.finish.filter(|_| waiting.scopes.is_empty()).or(known))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(action: Action) -> Ask {
        Ask { common: Common::at(Timestamp::now()), action, well: OutcomeResult::Applied }
    }

    fn put(inbox: &Inbox, scope: &str, wish: Wish, action: Action) {
        inbox.put(scope.parse().unwrap(), wish, None, ask(action));
    }

    fn block(until: u64) -> Block {
        Block { until: Timestamp::from_secs(until), ..Block::default() }
    }

    #[test]
    fn only_the_latest_wish_for_a_scope_waits_and_every_verdict_is_answered() {
        let inbox = Inbox::default();
        put(&inbox, "192.0.2.7", Wish::Block(Block::default()), Action::Block);
        put(&inbox, "192.0.2.8", Wish::Block(Block::default()), Action::Block);
        put(&inbox, "192.0.2.7", Wish::Release(Block::default()), Action::Unblock);
        assert_eq!(inbox.len(), 2);
        inbox.finish(Finish::Ended);
        let (taken, finish) = inbox.take(1, None, None);
        assert_eq!((taken[0].0.to_string().as_str(), finish), ("192.0.2.7/32", None));
        assert_eq!(taken[0].1.wish, Wish::Release(Block::default()));
        assert_eq!(taken[0].1.asks.len(), 2);
        let (taken, finish) = inbox.take(9, None, None);
        assert_eq!((taken.len(), finish), (1, Some(Finish::Ended)));
    }

    #[test]
    fn what_should_stand_already_never_replaces_what_makes_it_stand() {
        let inbox = Inbox::default();
        let scope = "192.0.2.7".parse().unwrap();
        let already = |until| inbox.put(scope, Wish::Block(block(until)), Some(block(9)), ask(Action::Block));
        put(&inbox, "192.0.2.7", Wish::Block(block(9)), Action::Block);
        already(5);
        let (taken, _) = inbox.take(1, None, None);
        assert_eq!((&taken[0].1.wish, &taken[0].1.already), (&Wish::Block(block(9)), &None));
        for until in [5, 7, 6] {
            already(until);
        }
        let (taken, _) = inbox.take(1, None, None);
        assert_eq!((&taken[0].1.wish, &taken[0].1.already), (&Wish::Block(block(7)), &Some(block(9))));
    }

    #[test]
    fn a_flood_for_one_scope_is_bounded() {
        let inbox = Inbox::default();
        for _ in 0..1000 {
            put(&inbox, "192.0.2.7", Wish::Block(Block::default()), Action::Block);
        }
        let (taken, _) = inbox.take(9, None, None);
        assert_eq!(taken[0].1.asks.len(), ANSWERS);
    }

    #[test]
    fn the_end_wakes_whoever_waits() {
        let inbox = Inbox::default();
        inbox.finish(Finish::Ended);
        assert_eq!(inbox.take(9, None, None), (vec![], Some(Finish::Ended)));
        let deadline = Timestamp::now().plus(Duration::from_millis(20));
        assert_eq!(inbox.take(9, Some(deadline), Some(Finish::Ended)).0, vec![]);
        assert!(Timestamp::now() >= deadline);
    }
}
