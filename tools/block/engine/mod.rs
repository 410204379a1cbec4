//! The engine: the one thread that decides. It alone changes what is wanted ([`Desired`]), writes the journal and gives outcomes.
//! It never waits for a backend: each has a thread of its own (`worker.rs`), gets operations, and tells what came of them.
//!
//! ```text
//! verdicts ──────┐              ┌─ guard, brake, capacity, panic: may it?
//! control socket ┼─▶ engine ────┼─ Desired ──▶ journal
//! ends, retries ─┘    │  ▲      └─ plan(desired, actual) ──▶ operations
//!                     ▼  │ results, drift, listings
//!                  workers, one for each backend           ──▶ outcomes
//! ```
//!
//! A scope is *enqueued* on a backend whenever something about it may have to be done there. When the backend is free, `plan` says
//! what: whatever happened meanwhile is in it. So nothing has to be undone, and nothing is done twice.
//!
//! | file | what it holds |
//! |---|---|
//! | `verdict.rs` | what a verdict changes |
//! | `dispatch.rs` | what backends are given to do: to put and to delete |
//! | `sync.rs` | they are listed: at the start, after drift and for a question |
//! | `results.rs` | what came of it, and what else backends tell |
//! | `repair.rs` | what others changed is put right, and reported |
//! | `release.rs` | who is not wanted any more: expired, flushed, allowed, in a panic; what the judge is told of it |
//! | `questions.rs` | what people ask |
//! | `backend_state.rs` | what the engine knows of one backend |
//! | `start.rs`, `service.rs`, `stop.rs` | the start; the loop that reads verdicts; the end |
//! | `once.rs` | one question, where no engine runs |

mod backend_state;
mod dispatch;
mod once;
mod questions;
mod release;
mod repair;
mod results;
mod service;
mod start;
mod stop;
mod sync;
mod verdict;

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use psentry_guard::Guard;
use psentry_records::{Prefix, Timestamp};
use psentry_stage::panic_file::{Mark, Order, PanicFile};
use psentry_stage::{Bell, FifoWriter, FileWatch, Pulse};

use self::backend_state::{AHEAD, BackendState};
pub(crate) use self::once::answer_once;
use self::questions::Pending;
pub(crate) use self::service::serve;
use self::start::Purpose;
use crate::block::Block;
use crate::brake::Brake;
use crate::clock::Clock;
use crate::desired::{Capacity, Desired};
use crate::error::Error;
use crate::journal::{CommandState, Journal, JournalEntry, Recorded};
use crate::outcomes::Outcomes;
use crate::reach::Ports;

/// How long nothing is looked at at most: files and clocks of which no event tells, and who is logged in.
const LONGEST: Duration = Duration::from_secs(60);

/// All that is known and decided.
pub(crate) struct Engine {
    clock: Clock,
    desired: Desired,
    max_blocks: usize,
    /// Which ports verdicts block.
    ports: Ports,
    /// In the order in which they are applied.
    backends: Vec<BackendState>,
    /// Rung by their workers.
    bell: Bell,
    journal: Option<Journal>,
    /// What commands did before, as long as no backend of this run runs them.
    by_command: HashMap<Prefix, CommandState>,
    pub(crate) outcomes: Outcomes,
    /// Where the judge is told; `None`: nobody is blocked in earnest.
    judge: Option<FifoWriter>,
    guard: Guard,
    /// What tells that a file has changed on which the guard depends, or that there is a panic.
    files: Option<FileWatch>,
    brake: Option<Brake>,
    capacity: Capacity,
    panic_file: PanicFile,
    panic_mark: Mark,
    /// The panic that holds.
    panic: Option<Order>,
    /// When the last one was over, by the wall clock, if it is.
    panic_over: Option<Timestamp>,
    questions: Vec<Pending>,
    purpose: Purpose,
    /// Whether no journal says what is wanted, so that what is there is all that is known.
    adopts: bool,
}

/// Where an answer goes, line by line. It ends when the last copy is dropped.
#[derive(Clone)]
pub(crate) struct Reply(Rc<dyn Fn(Vec<u8>)>);

impl Reply {
    pub(crate) fn new(send: impl Fn(Vec<u8>) + 'static) -> Self {
        Reply(Rc::new(send))
    }

    fn send(&self, lines: Vec<u8>) {
        (self.0)(lines);
    }

    /// Whether anybody else holds it, who is going to answer.
    fn is_awaited(&self) -> bool {
        Rc::strong_count(&self.0) > 1
    }

    /// Whether both go to the same.
    fn is_same(&self, other: &Reply) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Engine {
    /// Does whatever is to be done now, without waiting for anybody.
    pub(crate) fn step(&mut self) {
        self.look_at_clock();
        self.take_events();
        self.heed_changes();
        self.heed_panic();
        self.guard.glance();
        self.heed_allow_list();
        self.expire();
        self.retry();
        self.bypass_late_backends();
        // What is answered without an operation is in the journal by then, too.
        self.commit();
        self.dispatch();
        self.answer_questions();
        if !self.is_once() {
            self.report_broken();
        }
        self.tell_judge_the_rest();
        self.commit();
        // Nothing is half done here: whatever is to outlast this is wanted, on a backend or under way.
        if let Some(journal) = self.journal.as_ref().filter(|journal| journal.is_due()) {
            journal.write_anew(self.remembered(), self.clock.lasting(self.clock.now()));
        }
        let now = self.clock.wall(self.clock.now());
        self.backends.iter_mut().filter(|backend| backend.is_short()).for_each(|backend| backend.short = now);
    }

    /// Reads the clock. It may have been read long ago, if nothing happened since.
    fn look_at_clock(&mut self) {
        if self.clock.look() {
            self.clock_was_set();
        }
    }

    /// Takes in what workers told; whether they told anything.
    fn take_events(&mut self) -> bool {
        self.bell.silence();
        let mut any = false;
        for index in 0..self.backends.len() {
            while let Some((lane, event)) = self.backends.get(index).and_then(BackendState::event) {
                any = true;
                self.take_event(index, lane, event);
            }
        }
        any
    }

    /// Whether it is there for one question. Only the scopes of that are applied, for no engine runs that would keep the rest.
    fn is_once(&self) -> bool {
        self.purpose != Purpose::Serve
    }

    /// Heeds what the kernel reports of files and addresses on which the guard depends.
    fn heed_changes(&mut self) {
        if self.files.as_mut().is_none_or(FileWatch::changed) {
            self.guard.read_files();
        }
        self.guard.heed_changes();
    }

    /// How long nothing is to be done, if nothing happens.
    pub(crate) fn idle_for(&self) -> Duration {
        let now = self.clock.now();
        let ends = self.desired.next_end().into_iter();
        let moments = ends.chain(self.backends.iter().filter_map(|backend| backend.backoff.next()));
        let spans = moments.map(|moment: Timestamp| moment.since(now));
        let clock = Instant::now();
        let instants = self.backends.iter().flat_map(|backend| backend.next_moments(clock));
        let instants = instants.chain(self.questions.iter().map(Pending::deadline));
        let instants = instants.chain(self.next_telling(clock));
        let spans = spans.chain(instants.map(|moment| moment.saturating_duration_since(clock)));
        let brake = self.brake.as_ref().and_then(|brake| brake.patience(clock));
        // Rounded up, so that a moment has come when it is over.
        spans.chain(brake).min().unwrap_or(LONGEST).min(LONGEST).saturating_add(Duration::from_millis(1))
    }

    /// Whether backends have enough to do, or too much is not written yet, so that no more verdicts are to be taken.
    pub(crate) fn is_behind(&self) -> bool {
        let heeded = self.backends.iter().find(|backend| !backend.bypassed).or(self.backends.first());
        heeded.is_some_and(|backend| backend.queue.len() >= AHEAD) || self.outcomes.is_behind()
    }

    /// Whether nothing is under way.
    pub(crate) fn is_settled(&self) -> bool {
        self.backends.iter().all(BackendState::is_settled)
    }

    /// Whether all that was wanted at the start is there again, as far as it can be. A command takes as long as it likes, and no
    /// start of the machine waits for that.
    fn is_restored(&self) -> bool {
        let waited_for = self.backends.iter().filter(|state| state.caps.lists);
        waited_for
            .into_iter()
            .all(|state| state.bypassed || state.broken.is_some() || state.restoring.is_empty())
    }

    /// What the watchdog is to see of the workers.
    fn pulses(&self) -> impl Iterator<Item = Pulse> {
        self.backends.iter().flat_map(|state| &state.lanes).map(|lane| lane.worker.pulse.clone())
    }

    /// Readable when a worker told something, or a file has changed.
    fn descriptors(&self) -> Result<Vec<OwnedFd>, Error> {
        let all = [self.bell.as_fd()].into_iter().chain(self.files.as_ref().map(AsFd::as_fd));
        all.map(|fd| fd.try_clone_to_owned().map_err(Error::system("keep a descriptor"))).collect()
    }

    /// Writes the counters.
    fn write_stats(&mut self) {
        let waiting = self.backends.iter().map(|state| state.queue.len()).sum();
        self.outcomes.stats(self.desired.len(), waiting);
    }

    /// Writes the journal, if there is something to write.
    fn commit(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.commit(self.clock.lasting(self.clock.now()));
        }
    }

    /// Has an entry written into the journal with the next commit.
    fn record(&mut self, entry: JournalEntry) {
        if let Some(journal) = &mut self.journal {
            journal.record(entry);
        }
    }

    /// The same, how a scope is wanted now.
    fn record_wanted(&mut self, scope: Prefix) {
        if let Some(block) = self.desired.get(scope) {
            let block = self.lasting(block);
            self.record(JournalEntry::Wanted(scope, block));
        }
    }

    /// A block as it is written into the journal.
    fn lasting(&self, block: &Block) -> Block {
        block.with_moments(|moment| self.clock.lasting(moment))
    }

    /// A block as backends, records and people have it.
    fn by_wall(&self, block: &Block) -> Block {
        block.with_moments(|moment| self.clock.wall(moment))
    }

    /// All that the journal has to hold: what is wanted, and what commands did or may have done, and for whom.
    fn remembered(&self) -> Recorded {
        let blocks = self.desired.iter().map(|(scope, block)| (scope, self.lasting(block))).collect();
        let mut by_command = self.by_command.clone();
        for state in self.backends.iter().filter(|state| state.caps.journaled) {
            let known = |scope: Prefix| {
                let ending = state.ending.get(&scope).map(|(block, _)| block);
                self.desired.get(scope).or(ending).cloned().unwrap_or_default()
            };
            for (scope, entry) in &state.actual.entries {
                let Block { addr, port, proto, .. } = known(*scope);
                let block = self.lasting(&Block { addr, port, proto, ..Block::from(entry) });
                by_command.insert(*scope, CommandState { confirmed: Some(block), unsure: None });
            }
            let unsure = state.actual.unsure.iter().map(|scope| (*scope, known(*scope)));
            let under_way = state.in_flight().map(|op| (op.scope(), op.about().clone()));
            for (scope, block) in unsure.chain(under_way) {
                by_command.entry(scope).or_default().unsure = Some(self.lasting(&block));
            }
        }
        Recorded { blocks, by_command, ..Recorded::default() }
    }

    /// The wall clock was set, or the machine slept. Ends stay, but backends and the journal have them by the wall clock.
    fn clock_was_set(&mut self) {
        self.journal.iter().for_each(Journal::shorten);
        self.backends.iter_mut().for_each(BackendState::clock_was_set);
    }
}
