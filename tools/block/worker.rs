//! One thread per backend: takes what waits, has the backend do it, says what came of it, and remembers what is
//! to be done later. A slow backend keeps only itself waiting.

mod answers;
mod ending;
mod healing;
mod jobs;
mod letting_in;
mod noticing;
mod opening;
mod remembering;
mod telling;
mod waiting;

use std::collections::HashSet;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use psentry_records::{Prefix, Timestamp};

use crate::backend::{Backend, Block, Change, Entry, Wish};
use crate::error::Error;
use crate::inbox::{Ask, Finish, Inbox, Pending};
use crate::left::Left;
use crate::memory::Memory;
use crate::pace::Pace;
use crate::panic::Panic;
use crate::ready::Ready;
use crate::report::{Reporter, wake_main};
use crate::schedule::{Plan, Schedule};
use crate::surroundings::Guard;

/// How far the clock may get ahead of what has passed and not have been set: more than what keeps it right moves it.
const LEAP: Duration = Duration::from_secs(1);

/// A backend and its work.
pub(crate) struct Worker {
    backend: Box<dyn Backend>,
    inbox: Arc<Inbox>,
    reporter: Arc<Reporter>,
    schedule: Schedule,
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
    /// Where it is looked whether a panic holds.
    panic: Panic,
    /// Why it cannot be read what stands, once that was told; and whether that is so until somebody changes it.
    unread: Option<String>,
    waits_for_mending: bool,
    /// When something that is wanted last did not stand, and what was last put back when, for people who ask.
    short: Timestamp,
    repaired: Option<(Timestamp, String)>,
}

/// Why something is done.
enum Job {
    /// Verdicts ask for it.
    Asked(Vec<Ask>),
    /// It failed before, or the kernel has to be told again.
    Again(Plan),
    /// It is to go.
    End(Plan),
    /// What stood while a longer block failed is over.
    Lapse(Block),
    /// It stood, and others took it away.
    Repair(Plan),
    /// It must not be blocked any more; why.
    Refuse(Plan, String),
    /// It stood, and whom never to block has changed; why.
    Spare(Plan, String),
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
            unread: None,
            waits_for_mending: false,
            short: now,
            repaired: None,
        };
        for scope in left.news {
            let block = worker.schedule.get(scope).map(|plan| plan.block.clone());
            worker.note(scope, block.as_ref());
        }
        worker
    }

    /// Works until there is nothing more to do; says when what is remembered was put back.
    pub(crate) fn run(mut self, ready: Option<&Ready>) -> Result<(), Error> {
        let _alarm = Alarm;
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
            self.notice();
            let (next, watch) = (self.next(), self.backend.watch());
            let (arrived, finish) = self.inbox.take(self.at_once(), next, known, watch);
            self.round(arrived);
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

    /// Clocks are set, and machines sleep.
    fn look_at_the_clock(&mut self) {
        let (now, ticks) = (Timestamp::now(), Instant::now());
        if now < self.last {
            self.schedule.set_back(now);
        }
        self.behind |= ticks.saturating_duration_since(self.ticks) > now.since(self.last) + LEAP;
        self.ahead |= now.since(self.last) > ticks.saturating_duration_since(self.ticks) + LEAP;
        (self.last, self.ticks) = (now, ticks);
    }

    /// Does what is due, as much as the backend does at once: ends, or what is tried again.
    fn due(&mut self, decided: &HashSet<Prefix>, ends: bool) {
        let now = Timestamp::now();
        let chosen = |scope: &Prefix| {
            !decided.contains(scope) && self.schedule.get(*scope).is_some_and(|plan| plan.ends(now) == ends)
        };
        let due: Vec<Prefix> =
            self.schedule.due(now).into_iter().filter(chosen).take(self.at_once()).collect();
        let jobs = due.into_iter().filter_map(|scope| self.job(scope, now)).collect();
        self.work(jobs);
    }

    /// When something is to be done next, if nothing comes.
    fn next(&self) -> Option<Timestamp> {
        let moments = [self.schedule.next(), self.next_look(), self.next_reading(), self.next_glance()];
        moments.into_iter().flatten().min()
    }

    fn at_once(&self) -> usize {
        self.backend.at_once().max(1)
    }

    /// Has the backend do it, in pieces that it takes well, and says what came of each.
    fn work(&mut self, jobs: Vec<(Change, Job)>) {
        let mut jobs = jobs.into_iter().peekable();
        while jobs.peek().is_some() {
            let now = Timestamp::now();
            let some = jobs
                .by_ref()
                .take(self.at_once())
                .map(|(change, job)| jobs::in_time(change, job, now))
                .filter_map(|(change, job)| self.not_yet(change, job))
                .collect();
            let (changes, reasons): (Vec<Change>, Vec<Job>) = self.hold_off(some).into_iter().unzip();
            if changes.is_empty() {
                continue;
            }
            let results = self.backend.apply(&changes, now);
            self.remember(&changes, &reasons, &results);
            let now = Timestamp::now();
            for ((change, job), result) in changes.into_iter().zip(reasons).zip(results) {
                match change.wish {
                    Wish::Block(block) => self.blocked(change.scope, block, job, result, now),
                    Wish::Release(block) => self.released(change.scope, block, job, result, now),
                }
            }
        }
    }

    fn scopes_with(&self, which: impl Fn(&Plan) -> bool) -> Vec<Prefix> {
        let scopes = self.schedule.scopes().into_iter();
        scopes.filter(|scope| self.schedule.get(*scope).is_some_and(&which)).collect()
    }
}

/// Wakes the main loop when its thread dies, so that a backend is never silently gone.
struct Alarm;

impl Drop for Alarm {
    fn drop(&mut self) {
        if thread::panicking() {
            wake_main();
        }
    }
}

#[cfg(test)]
mod tests;
