//! What waits for one backend: at most one change for a scope, the latest, so that a slow backend never holds up
//! reading, and what waits is bounded by the number of scopes.

mod queue;

use std::collections::{BTreeMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use psentry_records::{Prefix, Timestamp};

use self::queue::Queue;
pub(crate) use self::queue::{Ask, Pending};
use crate::backend::{Block, Wish};
use crate::control::Answers;
use crate::error::Error;
use crate::run::room::Held;

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
    queue: Queue,
    /// Whether the bell has been rung since somebody last looked.
    rung: bool,
    finish: Option<Finish>,
    found: Vec<Found>,
    /// Whom it let in without a verdict, each with the block that is not wanted any more.
    let_in: Vec<(Prefix, Block)>,
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

/// What a worker is asked to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tell {
    /// How its backend is; and what holds back new blocks, which the main loop knows.
    Status(Held),
    /// Which blocks that it is to make overlap this.
    Why(Prefix),
    /// Which blocks did not stand, and are not made any more.
    TakeBack,
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

impl Waiting {
    /// How the work is to end, which counts once nothing waits any more; until then what is `known`.
    fn ends(&self, known: Option<Finish>) -> Option<Finish> {
        self.finish.filter(|_| self.queue.len() == 0).or(known)
    }
}

impl Inbox {
    /// An empty one.
    pub(crate) fn new() -> Result<Self, Error> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let bell = EventFd::from_flags(flags).map_err(|e| Error::system("make a bell")(e.into()))?;
        Ok(Inbox { state: Mutex::default(), bell })
    }

    /// Puts a change in; see [`Queue::put`].
    pub(crate) fn put(&self, scope: Prefix, wish: Wish, already: Option<Block>, ask: Ask) {
        let mut waiting = self.lock();
        waiting.queue.put(scope, wish, already, ask);
        self.ring(&mut waiting);
    }

    /// Takes note of what the ledger should know.
    pub(crate) fn tell(&self, found: Found) {
        self.lock().found.push(found);
    }

    /// What the ledger should know.
    pub(crate) fn found(&self) -> Vec<Found> {
        std::mem::take(&mut self.lock().found)
    }

    /// Takes note that somebody was let in without a verdict.
    pub(crate) fn tell_let_in(&self, scope: Prefix, was: Block) {
        self.lock().let_in.push((scope, was));
    }

    /// Whom it let in without a verdict since the last call.
    pub(crate) fn let_in(&self) -> Vec<(Prefix, Block)> {
        std::mem::take(&mut self.lock().let_in)
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
        self.lock().queue.around(scope)
    }

    /// The scopes that wait to be blocked, and those that wait to be let in.
    pub(crate) fn scopes(&self, now: Timestamp) -> (HashSet<Prefix>, HashSet<Prefix>) {
        self.lock().queue.wanted(now)
    }

    /// Takes the blocks that wait out again, in the order of their scopes.
    pub(crate) fn take_back(&self) -> BTreeMap<Prefix, Pending> {
        self.lock().queue.take_back()
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
        self.lock().queue.len()
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

    /// At most `most` of what waits, in the order in which it came, but nothing of scopes that are `busy`, and once nothing
    /// waits any more whether to finish; waits for something to come, or `also` to be readable, but not beyond `deadline`.
    pub(crate) fn take(
        &self,
        most: usize,
        busy: impl Fn(Prefix) -> bool,
        deadline: Option<Timestamp>,
        known: Option<Finish>,
        also: Option<BorrowedFd<'_>>,
    ) -> (Vec<(Prefix, Pending)>, Option<Finish>) {
        let mut guard = self.lock();
        let mut taken = guard.queue.pick(most, &busy);
        if taken.is_empty() && guard.ends(known) == known {
            let nap = deadline.map_or(NAP, |deadline| deadline.since(Timestamp::now()).min(NAP));
            if !nap.is_zero() {
                drop(guard);
                let fds = [Some(self.bell.as_fd()), also].into_iter().flatten();
                let mut fds: Vec<PollFd<'_>> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
                // Rounded up, so that a deadline has come when it is over. Interrupted, it only looks sooner.
                let nap = nap.saturating_add(Duration::from_millis(1));
                let _ = poll(&mut fds, PollTimeout::try_from(nap).unwrap_or(PollTimeout::MAX));
                guard = self.lock();
                taken = guard.queue.pick(most, &busy);
            }
        }
        if std::mem::take(&mut guard.rung) {
            let _ = self.bell.read();
        }
        (taken, guard.ends(known))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
