//! One thread per backend: takes what waits, has the backend do it, says what came of it, and remembers what is
//! to be done later. A slow backend keeps only itself waiting.
//!
//! | file | what it holds |
//! |---|---|
//! | `jobs.rs`, `timing.rs` | what is to be done about a scope, and why; when |
//! | `working.rs`, `answers.rs` | what the backend is given; what came of it |
//! | `noticing.rs`, `healing.rs` | what others did to its blocks; what of that is put back |
//! | `waiting.rs`, `opening.rs`, `taking_back.rs` | who is not blocked yet, or not any more: logged in, a panic, a flush |
//! | `remembering.rs`, `telling.rs` | what is noted for the next start; what people are told |
//! | `ending.rs` | how the work ends |
//! | `schedule.rs`, `pace.rs` | decisions, without I/O: what is due when; how soon what others took away is put back |

mod answers;
mod ending;
mod healing;
mod jobs;
mod letting_in;
mod noticing;
mod opening;
mod pace;
mod remembering;
mod schedule;
mod taking_back;
mod telling;
mod timing;
mod waiting;
mod working;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use psentry_records::{Prefix, Timestamp};

use self::jobs::Job;
use self::working::UnderWay;
use crate::backend::{Backend, Block, Entry};
use crate::error::Error;
use crate::guard::surroundings::Guard;
use crate::inbox::{Finish, Inbox, Pending};
use crate::memory::Memory;
use crate::memory::left::Left;
use crate::panic::{Mark, Panic};
use crate::report::{Reporter, wake_main};
use crate::run::ready::Ready;
use crate::watchdog::Pulse;
use crate::worker::pace::Pace;
use crate::worker::schedule::{Plan, Schedule};

/// A backend and its work.
pub(crate) struct Worker {
    backend: Box<dyn Backend>,
    inbox: Arc<Inbox>,
    reporter: Arc<Reporter>,
    schedule: Schedule,
    /// What the backend has begun and not told of.
    under_way: HashMap<Prefix, UnderWay>,
    /// Whether what is due comes before what arrived, this time.
    due_first: bool,
    guard: Guard,
    /// Which version of whom never to block it knows.
    allowed: u64,
    /// When it last looked at the clock, by the clock that nobody sets, too; and whether the first was ever ahead of it:
    /// then the kernel, which counts by the second one, holds blocks beyond their ends.
    last: Timestamp,
    ticks: Instant,
    ahead: bool,
    /// What an earlier run left and must not stand any more, and why.
    unwanted: Vec<(Prefix, String)>,
    /// Blocks that were given up when the input ended.
    given_up: usize,
    /// Who took something away that is to be put back, as far as it is known, and how soon it is.
    damage: Option<String>,
    pace: Pace,
    /// When it last looked whether its blocks stand, where nobody tells; and whether the clock was ever set back: then the
    /// kernel, which counts on, ends blocks before their time.
    looked: Instant,
    behind: bool,
    /// What is remembered beyond a restart, what of it is still to be put back, and whether what is released now is
    /// only released because this program stops.
    memory: Option<Memory>,
    missing: Vec<Prefix>,
    parting: bool,
    /// Where it is looked whether a panic holds, and the last one that it let everybody in for.
    panic: Panic,
    opened: Mark,
    /// Why it cannot be read what stands, once that was told; and whether that is so until somebody changes it.
    unread: Option<String>,
    waits_for_mending: bool,
    /// When something that is wanted last did not stand, and what was last put back when, for people who ask.
    short: Timestamp,
    repaired: Option<(Timestamp, String)>,
    /// What the watchdog sees of it.
    pulse: Pulse,
}

impl Worker {
    /// The work of `backend`, which has been prepared.
    pub(crate) fn new(
        backend: Box<dyn Backend>,
        left: Left,
        memory: Option<Memory>,
        inbox: Arc<Inbox>,
        guard: Guard,
        reporter: Arc<Reporter>,
    ) -> Self {
        let mut schedule = Schedule::default();
        let now = Timestamp::now();
        for (Entry { scope, early, .. }, block) in left.found {
            // What the kernel would end too early is renewed at once: nobody knows how much too early.
            let longest = if early { Some(Duration::ZERO) } else { None };
            schedule.stands(scope, block, None, now, longest);
        }
        for entry in left.unsure {
            schedule.doubts(entry.scope, Block::from(&entry), now);
        }
        let missing = left.missing.iter().map(|(scope, _)| *scope).collect();
        for (scope, block) in left.missing {
            schedule.stands(scope, block, None, now, None);
        }
        let mut worker = Worker {
            backend,
            inbox,
            reporter,
            schedule,
            under_way: HashMap::new(),
            due_first: false,
            guard,
            allowed: 0,
            last: now,
            ticks: Instant::now(),
            ahead: false,
            unwanted: left.unwanted,
            given_up: 0,
            damage: None,
            pace: Pace::default(),
            looked: Instant::now(),
            behind: false,
            memory,
            missing,
            parting: false,
            panic: Panic::default(),
            opened: Mark::default(),
            unread: None,
            waits_for_mending: false,
            short: now,
            repaired: None,
            pulse: Pulse::default(),
        };
        for scope in left.news {
            let block = worker.schedule.get(scope).map(|plan| plan.block.clone());
            worker.note(scope, block.as_ref());
        }
        worker
    }

    /// What the watchdog is to see of it.
    pub(crate) fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Works until there is nothing more to do; says when what is remembered was put back.
    pub(crate) fn run(mut self, ready: Option<&Ready>) -> Result<(), Error> {
        let _alarm = Alarm(self.pulse());
        let mut known = None;
        let unwanted = std::mem::take(&mut self.unwanted);
        let refuse = |(scope, why)| self.release(scope, |plan| Job::Refuse(plan, why));
        let jobs = unwanted.into_iter().filter_map(refuse).collect();
        self.work(jobs);
        self.restore();
        if let Some(ready) = ready {
            ready.done();
        }
        loop {
            self.pulse.step();
            self.notice();
            self.gather();
            let (most, next) = (self.room_for_news(), self.next());
            let busy = |scope| self.is_under_way(scope);
            let (arrived, finish) = self.inbox.take(most, busy, next, known, self.backend.watch());
            self.round(arrived);
            if self.inbox.len() == 0 {
                self.guard.rest();
            }
            self.tell();
            if finish != known {
                known = finish;
                match finish {
                    Some(Finish::Ended) => self.last_try(),
                    Some(Finish::Stop) => return self.stop(),
                    Some(Finish::Remove) => return self.remove(),
                    None => {}
                }
            }
            // Nothing arrives after the end, and what arrived before it is done.
            if known == Some(Finish::Ended) && !self.is_needed() {
                return self.result();
            }
        }
    }

    /// Does some of what is due and what arrived, ends first: however much arrives or fails, no end is late for it.
    fn round(&mut self, arrived: Vec<(Prefix, Pending)>) {
        let short = self.is_short();
        self.look_at_the_clock();
        self.guard.glance();
        self.gather();
        self.spare();
        self.notice();
        self.open_up();
        self.mend();
        // What was just decided about a scope replaces what was planned for it.
        let decided: HashSet<Prefix> = arrived.iter().map(|(scope, _)| *scope).collect();
        self.due(&decided, true);
        let jobs = self.settle(arrived);
        self.work(jobs);
        self.due(&decided, false);
        // What slipped in before the panic was seen.
        self.open_up();
        self.look_whether_short(short);
    }

    fn scopes_with(&self, which: impl Fn(&Plan) -> bool) -> Vec<Prefix> {
        let scopes = self.schedule.scopes().into_iter();
        scopes.filter(|scope| self.schedule.get(*scope).is_some_and(&which)).collect()
    }
}

/// Wakes the main loop when its thread dies, so that a backend is never silently gone. A thread that has ended does not hang.
struct Alarm(Pulse);

impl Drop for Alarm {
    fn drop(&mut self) {
        self.0.wait();
        if thread::panicking() {
            wake_main();
        }
    }
}

#[cfg(test)]
mod tests;
