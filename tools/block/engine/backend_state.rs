//! What the engine knows of one backend: what is there, what is to be done, what is under way, what failed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use psentry_records::{Action, Common, Prefix, Timestamp};

use super::Reply;
use super::repair::Repair;
use crate::backend::{Caps, Op, Op::Put};
use crate::backoff::Backoff;
use crate::block::Block;
use crate::reconcile::Actual;
use crate::repair_rate::RepairRate;
use crate::worker::Worker;

/// How many scopes may wait before no more verdicts are taken.
const AHEAD: usize = 256;
/// How many verdicts for one scope are answered one by one when the backend is that far behind; of more, the newest ones are.
const ASKS: usize = 16;
/// How long a backend that cannot work waits until it is tried again; the wait doubles up to the second.
const BROKEN_WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// One backend, as the engine sees it.
pub(crate) struct BackendState {
    /// What its workers call it. Its place among the backends may change.
    pub(super) number: usize,
    pub(crate) caps: Caps,
    pub(crate) workers: Vec<Worker>,
    /// The operations that each worker has, by the engine's clock.
    pub(super) given: Vec<Vec<Op>>,
    pub(super) actual: Actual,
    pub(super) queue: Queue,
    /// The verdicts that wait for an outcome, of each scope; and those whose operation is under way.
    pub(super) asks: HashMap<Prefix, Vec<Ask>>,
    pub(super) given_asks: HashMap<Prefix, Vec<Ask>>,
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

/// How the end of a block is reported.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum End {
    /// Its time is over.
    Expired,
    /// Somebody ended it; why.
    Released(Option<String>),
    /// It must not be blocked any more; why.
    Refused(String),
}

/// Whether what is there is known.
#[derive(Default)]
pub(super) struct Sync {
    /// It was listed, and nothing since makes that doubtful: only then operations are given.
    pub(super) done: bool,
    /// It is to be listed: somebody changed something, who, as far as that is known.
    pub(super) drifted: Option<Option<String>>,
    /// It is to be listed for another reason.
    pub(super) wanted: bool,
    /// It is being listed since then; what differs is put right, or is to wait.
    pub(super) running: Option<Instant>,
    pub(super) repairs: bool,
    /// Since it was last listed the wall clock was set, or a purge failed: what differs from then is no drift.
    pub(super) no_drift: bool,
    /// How often it was begun, and ended.
    pub(super) begun: u64,
    pub(super) ended: u64,
    pub(super) last: Option<Instant>,
    pub(super) rate: RepairRate,
    /// Why it could not be listed, once that was told.
    pub(super) unread: Option<String>,
    /// What others changed, and is not put right yet.
    pub(super) repair: Option<Repair>,
    /// Everything is to be deleted.
    pub(super) purge: bool,
    /// Who waits for that, and until when.
    pub(super) purge_asked: Vec<(Instant, Reply)>,
    /// Everything was deleted, and nothing has been blocked since: nothing is made for what others change.
    pub(super) purged: bool,
    /// What blocks are in has been made since for some of them alone: the rest is made anew, and is no repair.
    pub(super) made_anew: bool,
}

/// That a backend cannot work.
pub(super) struct Broken {
    pub(super) why: String,
    pub(super) retry: Instant,
    pub(super) wait: Duration,
}

/// The scopes about which something may have to be done, each once, in the order in which they came.
#[derive(Default)]
pub(super) struct Queue {
    order: BTreeMap<u64, Prefix>,
    places: HashMap<Prefix, u64>,
    count: u64,
}

impl Queue {
    /// Puts a scope at the end, unless it waits already.
    pub(super) fn push(&mut self, scope: Prefix) {
        if !self.places.contains_key(&scope) {
            self.count += 1;
            self.places.insert(scope, self.count);
            self.order.insert(self.count, scope);
        }
    }

    /// Takes the first one out.
    pub(super) fn pop(&mut self) -> Option<Prefix> {
        let (_, scope) = self.order.pop_first()?;
        self.places.remove(&scope);
        Some(scope)
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn contains(&self, scope: Prefix) -> bool {
        self.places.contains_key(&scope)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Prefix> {
        self.order.values().copied()
    }
}

impl Broken {
    /// One more failure.
    pub(super) fn again(before: Option<&Broken>, why: String) -> Self {
        let (first, longest) = BROKEN_WAITS;
        let wait = before.map_or(first, |before| (before.wait * 2).min(longest));
        Broken { why, retry: Instant::now() + wait, wait }
    }
}

impl BackendState {
    pub(super) fn new(number: usize, caps: Caps, workers: Vec<Worker>, now: Timestamp) -> Self {
        BackendState {
            number,
            caps,
            given: workers.iter().map(|_| Vec::new()).collect(),
            workers,
            actual: Actual::default(),
            queue: Queue::default(),
            asks: HashMap::new(),
            given_asks: HashMap::new(),
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
        if asks.len() >= ASKS {
            asks.remove(0);
        }
        asks.push(ask);
    }

    /// The verdicts that get their outcome now: those of the operation that is over, or else those that wait.
    pub(super) fn take_asks(&mut self, scope: Prefix) -> Vec<Ask> {
        self.given_asks.remove(&scope).or_else(|| self.asks.remove(&scope)).unwrap_or_default()
    }

    /// The operations that are under way.
    pub(super) fn in_flight(&self) -> impl Iterator<Item = &Op> {
        self.given.iter().flatten()
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

    /// Whether it was listed once and can be given operations.
    pub(super) fn is_ready(&self) -> bool {
        self.sync.done && self.sync.running.is_none()
    }

    pub(super) fn want_sync(&mut self) {
        self.sync.wanted |= self.caps.lists && self.sync.done;
    }

    /// The wall clock was set: what is there is to be read by the new one.
    pub(super) fn clock_was_set(&mut self) {
        self.sync.no_drift = true;
        self.want_sync();
    }

    pub(super) fn has_enough(&self) -> bool {
        self.queue.len() >= AHEAD
    }

    /// Whether nothing is under way or waits for its turn.
    pub(super) fn is_settled(&self) -> bool {
        self.queue.len() == 0 && self.workers.iter().all(|worker| worker.busy.is_none())
    }

    /// Whether something that is wanted is missing, as far as is known without listing.
    pub(super) fn is_short(&self) -> bool {
        let waits = self.broken.is_some() || self.sync.drifted.is_some() || self.sync.repair.is_some();
        waits
            || self.backoff.failing() > 0
            || self.queue.len() > 0
            || self.in_flight().any(|op| matches!(op, Put { .. }))
    }

    /// When something is to be done about it.
    pub(super) fn next_moments(&self, now: Instant) -> impl Iterator<Item = Instant> {
        let patience = self.workers.iter().filter_map(|worker| worker.busy).min().filter(|_| !self.bypassed);
        let drifted = self.sync.drifted.as_ref().map(|_| self.sync.rate.not_before(now).unwrap_or(now));
        let broken = self.broken.as_ref().map(|broken| broken.retry);
        let idle = self.sync.running.is_none();
        let list = self.caps.list_every.zip(self.sync.last).map(|(every, last)| last + every);
        let due = [drifted, broken, list].into_iter().flatten().filter(move |_| idle);
        let asked = self.sync.purge_asked.first().map(|(deadline, _)| *deadline);
        patience.map(|busy| busy + self.caps.patience).into_iter().chain(asked).chain(due)
    }
}
