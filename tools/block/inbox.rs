//! What waits for one backend: at most one change for a scope, the latest, so that a slow backend never holds up
//! reading, and what waits is bounded by the number of scopes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use psentry_records::{Action, Common, OutcomeResult, Prefix, Timestamp};

use crate::backend::{Block, Wish};
use crate::control::Answers;
use crate::error::Error;
use crate::room::Held;

/// How many verdicts for one scope are answered one by one when the backend is that far behind; of more, the
/// newest ones are.
const ANSWERS: usize = 16;

/// The longest nap: a clock that was set is noticed that soon.
const NAP: Duration = Duration::from_secs(15);

/// What waits.
pub(crate) struct Inbox {
    state: Mutex<Waiting>,
    /// A descriptor, so that the kernel's notifications can be waited for beside it.
    bell: EventFd,
}

#[derive(Default)]
struct Waiting {
    scopes: HashMap<Prefix, Pending>,
    /// Their order; who waits keeps his place.
    order: BTreeMap<u64, Prefix>,
    count: u64,
    /// Whether the bell has been rung since somebody last looked.
    rung: bool,
    finish: Option<Finish>,
    found: Vec<Found>,
    /// What people want to know of the backend.
    questions: Vec<(Tell, Answers)>,
    /// Whether everybody was let in because of a panic.
    opened: bool,
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
}

/// What a worker is asked to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tell {
    /// How its backend is; and what holds back new blocks, which the main loop knows.
    Status(Held),
    /// Which blocks that it is to make overlap this.
    Why(Prefix),
    /// Whom it let in: all whom it shuts out.
    LetIn,
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
    /// An empty one.
    pub(crate) fn new() -> Result<Self, Error> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let bell = EventFd::from_flags(flags).map_err(|e| Error::system("make a bell")(e.into()))?;
        Ok(Inbox { state: Mutex::default(), bell })
    }

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
        self.ring(waiting);
    }

    /// Takes note of what the ledger should know.
    pub(crate) fn tell(&self, found: Found) {
        self.lock().found.push(found);
    }

    /// What the ledger should know.
    pub(crate) fn found(&self) -> Vec<Found> {
        std::mem::take(&mut self.lock().found)
    }

    /// Has the worker tell something of its backend.
    pub(crate) fn ask(&self, what: Tell, answers: Answers) {
        let mut waiting = self.lock();
        waiting.questions.push((what, answers));
        self.ring(&mut waiting);
    }

    /// What people want to know since the last call.
    pub(crate) fn questions(&self) -> Vec<(Tell, Answers)> {
        std::mem::take(&mut self.lock().questions)
    }

    /// The blocks that wait and overlap `scope`.
    pub(crate) fn around(&self, scope: Prefix) -> Vec<(Prefix, Block)> {
        let waiting = self.lock();
        let held = waiting.scopes.iter().filter(|(other, _)| scope.overlaps(**other));
        let block = |(scope, pending): (&Prefix, &Pending)| match &pending.wish {
            Wish::Block(block) => Some((*scope, block.clone())),
            Wish::Release(_) => None,
        };
        held.filter_map(block).collect()
    }

    /// The scopes that wait to be blocked, and those that wait to be let in.
    pub(crate) fn scopes(&self, now: Timestamp) -> (HashSet<Prefix>, HashSet<Prefix>) {
        let waiting = self.lock();
        let over = |pending: &Pending| matches!(&pending.wish, Wish::Block(block) if block.is_over(now));
        let wanted = waiting.scopes.iter().filter(|(_, pending)| !over(pending));
        let (block, release): (Vec<_>, Vec<_>) =
            wanted.partition(|(_, pending)| matches!(pending.wish, Wish::Block(_)));
        let scopes = |some: Vec<(&Prefix, &Pending)>| some.into_iter().map(|(scope, _)| *scope).collect();
        (scopes(block), scopes(release))
    }

    /// Takes note that everybody was let in.
    pub(crate) fn tell_opened(&self) {
        self.lock().opened = true;
    }

    /// Whether everybody was let in since the last call.
    pub(crate) fn opened(&self) -> bool {
        std::mem::take(&mut self.lock().opened)
    }

    /// How many scopes wait.
    pub(crate) fn len(&self) -> usize {
        self.lock().scopes.len()
    }

    /// Says that nothing more comes.
    pub(crate) fn finish(&self, finish: Finish) {
        let mut waiting = self.lock();
        waiting.finish = Some(finish);
        self.ring(&mut waiting);
    }

    fn ring(&self, waiting: &mut Waiting) {
        if !std::mem::replace(&mut waiting.rung, true) {
            // Refused only where it has been rung 2^64 times.
            let _ = self.bell.write(1);
        }
    }

    /// At most `most` of what waits, in the order in which it came, and once nothing waits any more whether to
    /// finish; waits for something to come, or `also` to be readable, but not beyond `deadline`.
    pub(crate) fn take(
        &self,
        most: usize,
        deadline: Option<Timestamp>,
        known: Option<Finish>,
        also: Option<BorrowedFd<'_>>,
    ) -> (Vec<(Prefix, Pending)>, Option<Finish>) {
        let mut guard = self.lock();
        if guard.scopes.is_empty() && guard.finish == known {
            let nap = deadline.map_or(NAP, |deadline| deadline.since(Timestamp::now()).min(NAP));
            if !nap.is_zero() {
                drop(guard);
                let fds = [Some(self.bell.as_fd()), also].into_iter().flatten();
                let mut fds: Vec<PollFd<'_>> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
                // Rounded up, so that a deadline has come when it is over. Interrupted, it only looks sooner.
                let nap = nap.saturating_add(Duration::from_millis(1));
                let _ = poll(&mut fds, PollTimeout::try_from(nap).unwrap_or(PollTimeout::MAX));
                guard = self.lock();
            }
        }
        let waiting = &mut *guard;
        if std::mem::take(&mut waiting.rung) {
            let _ = self.bell.read();
        }
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
mod tests;
