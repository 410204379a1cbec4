//! What the engine knows of one backend: what is there, what is to be done, what is under way, what failed.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use psentry_records::{Action, Common, Prefix, Timestamp};

use super::Reply;
use super::repair::{Repair, RepairRate};
use crate::backend::{Caps, Drift, Op, Op::Put};
use crate::backoff::Backoff;
use crate::block::Block;
use crate::error::Error;
use crate::outcomes::common_of;
use crate::reconcile::Actual;
use crate::worker::{Event, Task, Worker};

/// How many scopes may wait before no more verdicts are taken.
pub(super) const AHEAD: usize = 256;
/// How many verdicts for one scope are answered one by one when the backend is that far behind; of more, the newest ones
/// and those of commands are.
const ASKS: usize = 16;
/// How long a backend that cannot work waits until it is tried again; the wait doubles up to the second.
const BROKEN_WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// One backend, as the engine sees it.
pub(crate) struct BackendState {
    pub(crate) caps: Caps,
    pub(super) lanes: Vec<Lane>,
    pub(super) actual: Actual,
    pub(super) queue: Queue,
    /// The verdicts about each scope that wait for an operation, or for it to be seen that there is nothing to do.
    pub(super) asks: HashMap<Prefix, Vec<Ask>>,
    pub(super) backoff: Backoff,
    /// What is not wanted any more and is still to be deleted: as it was wanted, and how its end is reported.
    pub(super) ending: HashMap<Prefix, (Block, End)>,
    /// It has had a batch for too long: the backends after it do not wait for it.
    pub(super) bypassed: bool,
    pub(super) sync: Sync,
    /// Why nothing can be blocked this way, and when it is tried again.
    pub(super) broken: Option<Broken>,
    pub(super) shadowed: Vec<String>,
    /// What the start has put into the queue, and is not done yet.
    pub(super) restoring: HashSet<Prefix>,
    /// When something that is wanted was last missing, and what was last put back when, by the wall clock.
    pub(super) short: Timestamp,
    pub(super) repaired: Option<(Timestamp, String)>,
}

/// A thread of a backend, and what it was given until it tells what came of that.
pub(super) struct Lane {
    pub(super) worker: Worker,
    pub(super) job: Option<Job>,
}

/// What a lane has to do, and since when.
pub(super) struct Job {
    pub(super) since: Instant,
    pub(super) work: Work,
}

pub(super) enum Work {
    /// `repairs`: what differs is put right; else it is to wait.
    List {
        repairs: bool,
    },
    Apply(Vec<Given>),
    Purge,
}

/// An operation that is under way, by the engine's clock, and the verdicts that get its outcome.
pub(super) struct Given {
    pub(super) op: Op,
    pub(super) asks: Vec<Ask>,
}

/// A verdict that waits for its outcome.
#[derive(Clone)]
pub(super) struct Ask {
    pub(super) common: Common,
    pub(super) action: Action,
    /// It asks for nothing that was not wanted before.
    pub(super) already: bool,
    /// What else its outcome tells.
    pub(super) remark: Option<String>,
    pub(super) reply: Option<Reply>,
}

impl Ask {
    /// As if a verdict on a block had asked, of an outcome that is told although none did.
    pub(super) fn unasked(action: Action, block: &Block) -> Self {
        Ask { common: common_of(block, Timestamp::now()), action, already: false, remark: None, reply: None }
    }
}

/// How the end of a block is reported.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum End {
    /// Its time is over, or somebody ended it; why.
    Released(Option<String>),
    /// It must not be blocked any more; why.
    Refused(String),
}

/// What is known of what is there, and what is to be done to know it.
#[derive(Default)]
pub(super) struct Sync {
    /// When it was last begun to list it; `None`: it never was. Before that no operation is given.
    pub(super) listed: Option<Instant>,
    /// Whether it was ever read what is there.
    pub(super) was_read: bool,
    /// Whether it was listed since it was last given operations.
    pub(super) listed_last: bool,
    /// It is to be listed: somebody changed something.
    pub(super) drifted: Option<Drift>,
    /// It is to be listed for another reason.
    pub(super) wanted: bool,
    /// Since it was last listed the wall clock was set, or a purge failed: what differs from then is no drift.
    pub(super) no_drift: bool,
    pub(super) rate: RepairRate,
    /// Why it could not be listed, once that was told.
    pub(super) unread: Option<Error>,
    /// What others changed, and is not put right yet.
    pub(super) repair: Option<Repair>,
    pub(super) ruleset: Ruleset,
    /// Who waits until everything is deleted.
    pub(super) purge_asked: Vec<Reply>,
}

/// What is to become of that which blocks are in.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Ruleset {
    /// It is there, and made again where it is not.
    #[default]
    Kept,
    /// Every trace is to be deleted.
    Purge,
    /// It was deleted, and nothing has been blocked since: nothing is made for what others change.
    Purged,
    /// It has been made since for some blocks alone: that the rest is made is no repair.
    MadeAnew,
}

/// That a backend cannot work.
pub(super) struct Broken {
    pub(super) error: Error,
    pub(super) retry: Instant,
    pub(super) wait: Duration,
    /// Whether that was reported.
    pub(super) reported: bool,
}

/// The scopes about which something may have to be done, each once, in the order in which they came.
#[derive(Default)]
pub(super) struct Queue {
    order: VecDeque<Prefix>,
    waiting: HashSet<Prefix>,
}

impl Queue {
    /// Puts a scope at the end, unless it waits already.
    pub(super) fn push(&mut self, scope: Prefix) {
        if self.waiting.insert(scope) {
            self.order.push_back(scope);
        }
    }

    /// Takes the first one out.
    pub(super) fn pop(&mut self) -> Option<Prefix> {
        let scope = self.order.pop_front()?;
        self.waiting.remove(&scope);
        Some(scope)
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn contains(&self, scope: Prefix) -> bool {
        self.waiting.contains(&scope)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Prefix> {
        self.order.iter().copied()
    }
}

impl Broken {
    /// One more failure.
    pub(super) fn again(before: Option<&Broken>, error: &Error) -> Self {
        let (first, longest) = BROKEN_WAITS;
        let wait = before.map_or(first, |before| (before.wait * 2).min(longest));
        let reported =
            before.is_some_and(|before| before.reported && before.error.to_string() == error.to_string());
        Broken { error: error.clone(), retry: Instant::now() + wait, wait, reported }
    }
}

impl Lane {
    /// Gives it a task, which is `work` for the engine.
    pub(super) fn give(&mut self, task: Task, work: Work) {
        self.job = Some(Job { since: Instant::now(), work });
        self.worker.give(task);
    }
}

impl BackendState {
    pub(super) fn new(caps: Caps, workers: Vec<Worker>, now: Timestamp) -> Self {
        BackendState {
            caps,
            lanes: workers.into_iter().map(|worker| Lane { worker, job: None }).collect(),
            actual: Actual::default(),
            queue: Queue::default(),
            asks: HashMap::new(),
            backoff: Backoff::default(),
            ending: HashMap::new(),
            bypassed: false,
            sync: Sync::default(),
            broken: None,
            shadowed: Vec::new(),
            restoring: HashSet::new(),
            short: now,
            repaired: None,
        }
    }

    /// A verdict waits for its outcome.
    pub(super) fn ask(&mut self, scope: Prefix, ask: Ask) {
        let asks = self.asks.entry(scope).or_default();
        // Whoever asked by a command waits for an answer; of those there are as many as the control socket serves.
        let oldest = asks.iter().position(|ask| ask.reply.is_none());
        if let Some(oldest) = oldest.filter(|_| asks.len() >= ASKS) {
            asks.remove(oldest);
        }
        asks.push(ask);
    }

    /// The verdicts that wait, of operations under way, too.
    pub(super) fn all_asks(&mut self) -> impl Iterator<Item = (Prefix, &mut Ask)> {
        let waiting = self.asks.iter_mut().map(|(scope, asks)| (*scope, asks));
        let works = self.lanes.iter_mut().filter_map(|lane| lane.job.as_mut());
        let given = works.flat_map(|job| match &mut job.work {
            Work::Apply(given) => given.as_mut_slice(),
            _ => &mut [],
        });
        let under_way = given.map(|given| (given.op.scope(), &mut given.asks));
        waiting.chain(under_way).flat_map(|(scope, asks)| asks.iter_mut().map(move |ask| (scope, ask)))
    }

    /// The next thing that one of its workers has told, and which.
    pub(super) fn event(&self) -> Option<(usize, Event)> {
        self.lanes.iter().enumerate().find_map(|(lane, state)| Some((lane, state.worker.event()?)))
    }

    /// The operations that are under way.
    pub(super) fn in_flight(&self) -> impl Iterator<Item = &Op> {
        let given = self.jobs().filter_map(|job| match &job.work {
            Work::Apply(given) => Some(given),
            _ => None,
        });
        given.flatten().map(|given| &given.op)
    }

    /// Whether one of this scope is.
    pub(super) fn is_in_flight(&self, scope: Prefix) -> bool {
        self.in_flight().any(|op| op.scope() == scope)
    }

    /// Whether anything about a scope is there, or is to be done.
    pub(super) fn knows(&self, scope: Prefix) -> bool {
        self.actual.may_have(scope)
            || self.queue.contains(scope)
            || self.backoff.get(scope).is_some()
            || self.is_in_flight(scope)
    }

    /// Whether no lane has anything to do.
    pub(super) fn is_idle(&self) -> bool {
        self.lanes.iter().all(|lane| lane.job.is_none())
    }

    /// A lane that has nothing to do.
    pub(super) fn free_lane(&self) -> Option<usize> {
        self.lanes.iter().position(|lane| lane.job.is_none())
    }

    /// What its lanes have to do.
    pub(super) fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.lanes.iter().filter_map(|lane| lane.job.as_ref())
    }

    /// Since when the first of its lanes that are busy is.
    pub(super) fn busy_since(&self) -> Option<Instant> {
        self.jobs().map(|job| job.since).min()
    }

    /// Whether it was listed once and can be given operations.
    pub(super) fn is_ready(&self) -> bool {
        let is_being_listed = self.jobs().any(|job| matches!(job.work, Work::List { .. }));
        self.sync.listed.is_some() && !is_being_listed
    }

    /// Whether it was listed, or is known not to work.
    pub(super) fn has_answered(&self) -> bool {
        self.sync.listed.is_some() || self.broken.is_some()
    }

    /// Why it is not known what is there, if it is not.
    pub(super) fn trouble(&self) -> Option<&Error> {
        self.broken.as_ref().map(|broken| &broken.error).or(self.sync.unread.as_ref())
    }

    pub(super) fn want_sync(&mut self) {
        self.sync.wanted |= self.caps.lists;
    }

    /// The wall clock was set: what is there is to be read by the new one.
    pub(super) fn clock_was_set(&mut self) {
        self.sync.no_drift = true;
        self.want_sync();
    }

    /// Whether nothing is under way or waits for its turn.
    pub(super) fn is_settled(&self) -> bool {
        self.queue.len() == 0 && self.is_idle()
    }

    /// Whether something that is wanted is missing, as far as is known without listing.
    pub(super) fn is_short(&self) -> bool {
        let waits = self.broken.is_some() || self.sync.drifted.is_some() || self.sync.repair.is_some();
        waits
            || self.backoff.failing() > 0
            || self.queue.len() > 0
            || self.in_flight().any(|op| matches!(op, Put { .. }))
    }

    /// When it is to be listed next, if it is; then, or once it is idle.
    pub(super) fn next_list(&self, now: Instant) -> Option<Instant> {
        if let Some(broken) = &self.broken {
            return Some(broken.retry);
        }
        let wanted = self.sync.wanted.then_some(now);
        let drifted = self.sync.drifted.as_ref().map(|_| self.sync.rate.not_before(now).unwrap_or(now));
        let aged = self.caps.list_every.zip(self.sync.listed).map(|(every, last)| last + every);
        [wanted, drifted, aged].into_iter().flatten().min()
    }

    /// Whether it is to be listed now. Whoever asks for lists again and again does not keep it from its work: between two lists it is
    /// given what waits.
    pub(super) fn list_is_due(&self, now: Instant) -> bool {
        let works_first = self.sync.listed_last && self.is_ready() && self.queue.len() > 0;
        !works_first && self.next_list(now).is_some_and(|moment| moment <= now)
    }

    /// When something is to be done about it.
    pub(super) fn next_moments(&self, now: Instant) -> impl Iterator<Item = Instant> {
        let patience = self.busy_since().filter(|_| !self.bypassed).map(|since| since + self.caps.patience);
        patience.into_iter().chain(self.next_list(now).filter(|_| self.is_idle()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_awaited_until_it_is_tried_again_though_others_change_something() {
        let now = Instant::now();
        let mut state = BackendState::new(Caps::of("nft"), Vec::new(), Timestamp::now());
        assert_eq!(state.next_moments(now).next(), None, "nothing is to be done");
        state.sync.drifted = Some(Drift::default());
        assert_eq!(state.next_moments(now).next(), Some(now));
        let error = Error::NotPermitted { backend: "nft" };
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            state.broken = Some(Broken::again(state.broken.as_ref(), &error));
            let next = state.next_moments(now).min().unwrap();
            assert!(next.saturating_duration_since(now) >= Duration::from_secs(wait), "after {wait} s");
        }
    }

    #[test]
    fn between_two_lists_it_is_given_what_waits() {
        let now = Instant::now();
        let mut state = BackendState::new(Caps::of("nft"), Vec::new(), Timestamp::now());
        state.want_sync();
        state.queue.push("192.0.2.7".parse().unwrap());
        assert!(state.list_is_due(now), "it was never listed");
        (state.sync.listed, state.sync.listed_last) = (Some(now), true);
        assert!(!state.list_is_due(now));
        state.queue.pop();
        assert!(state.list_is_due(now), "nothing waits");
        state.queue.push("192.0.2.8".parse().unwrap());
        state.sync.listed_last = false;
        assert!(state.list_is_due(now), "it was given something");
    }

    #[test]
    fn of_many_verdicts_for_one_scope_those_of_commands_are_answered() {
        let mut state = BackendState::new(Caps::of("nft"), Vec::new(), Timestamp::now());
        let scope = "192.0.2.7".parse().unwrap();
        let common = Common::at(Timestamp::now());
        let ask = Ask { common, action: Action::Block, already: false, remark: None, reply: None };
        let reply = Some(Reply::new(|_| {}));
        state.ask(scope, Ask { reply, ..ask.clone() });
        for _ in 0..2 * ASKS {
            state.ask(scope, ask.clone());
        }
        let asks = &state.asks[&scope];
        assert_eq!((asks.len(), asks.iter().filter(|ask| ask.reply.is_some()).count()), (ASKS, 1));
    }

    #[test]
    fn each_scope_waits_once_in_the_order_in_which_it_came() {
        let mut queue = Queue::default();
        let [a, b] = ["192.0.2.7", "192.0.2.8"].map(|scope| scope.parse().unwrap());
        [a, b, a].into_iter().for_each(|scope| queue.push(scope));
        assert_eq!((queue.len(), queue.pop()), (2, Some(a)));
        queue.push(a);
        assert_eq!(queue.iter().collect::<Vec<Prefix>>(), [b, a]);
    }
}
