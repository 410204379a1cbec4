//! What waits for one backend: at most one change for a scope, the latest, so that a slow backend never holds up
//! reading, and what waits is bounded by the number of scopes.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use psentry_records::{Action, Common, OutcomeResult, Prefix, Timestamp};

use crate::backend::Wish;

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
    count: u64,
    finish: Option<Finish>,
}

/// A change that waits, and the verdicts that are to be answered when it is made.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pending {
    pub(crate) wish: Wish,
    pub(crate) asks: Vec<Ask>,
    order: u64,
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
    /// Puts a change in, in place of what waits for the same scope.
    pub(crate) fn put(&self, scope: Prefix, wish: Wish, ask: Ask) {
        let mut waiting = self.lock();
        waiting.count += 1;
        let order = waiting.count;
        let pending = waiting.scopes.entry(scope).or_insert_with(|| Pending {
            wish: wish.clone(),
            asks: Vec::new(),
            order,
        });
        pending.wish = wish;
        pending.order = order;
        if pending.asks.len() >= ANSWERS {
            pending.asks.remove(0);
        }
        pending.asks.push(ask);
        drop(waiting);
        self.bell.notify_one();
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

    /// All that waits, in the order in which it came, and whether to finish; waits for something to come, but
    /// not beyond `deadline`, and once the input has ended only for the deadline.
    pub(crate) fn take(
        &self,
        deadline: Option<Timestamp>,
        known: Option<Finish>,
    ) -> (Vec<(Prefix, Pending)>, Option<Finish>) {
        let mut waiting = self.lock();
        if waiting.scopes.is_empty() && waiting.finish == known {
            let nap = deadline.map_or(NAP, |deadline| deadline.since(Timestamp::now()).min(NAP));
            if !nap.is_zero() {
                waiting = self.bell.wait_timeout(waiting, nap).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        let mut taken: Vec<(Prefix, Pending)> = waiting.scopes.drain().collect();
        taken.sort_unstable_by_key(|(_, pending)| pending.order);
        (taken, waiting.finish)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Block;

    fn ask(action: Action) -> Ask {
        Ask { common: Common::at(Timestamp::now()), action, well: OutcomeResult::Applied }
    }

    #[test]
    fn only_the_latest_wish_for_a_scope_waits_and_every_verdict_is_answered() {
        let inbox = Inbox::default();
        let (first, second) = ("192.0.2.7".parse().unwrap(), "192.0.2.8".parse().unwrap());
        inbox.put(first, Wish::Block(Block::default()), ask(Action::Block));
        inbox.put(second, Wish::Block(Block::default()), ask(Action::Block));
        inbox.put(first, Wish::Release(Block::default()), ask(Action::Unblock));
        assert_eq!(inbox.len(), 2);
        let (taken, finish) = inbox.take(None, None);
        assert_eq!(taken.iter().map(|(scope, _)| *scope).collect::<Vec<_>>(), [second, first]);
        assert_eq!(taken[1].1.wish, Wish::Release(Block::default()));
        assert_eq!(taken[1].1.asks.len(), 2);
        assert_eq!(finish, None);
    }

    #[test]
    fn a_flood_for_one_scope_is_bounded() {
        let inbox = Inbox::default();
        for _ in 0..1000 {
            inbox.put("192.0.2.7".parse().unwrap(), Wish::Block(Block::default()), ask(Action::Block));
        }
        let (taken, _) = inbox.take(None, None);
        assert_eq!(taken[0].1.asks.len(), ANSWERS);
    }

    #[test]
    fn the_end_wakes_whoever_waits() {
        let inbox = Inbox::default();
        inbox.finish(Finish::Ended);
        assert_eq!(inbox.take(None, None), (vec![], Some(Finish::Ended)));
        let deadline = Timestamp::now().plus(Duration::from_millis(20));
        assert_eq!(inbox.take(Some(deadline), Some(Finish::Ended)).0, vec![]);
        assert!(Timestamp::now() >= deadline);
    }
}
