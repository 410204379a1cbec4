//! One thread per backend: takes what waits, has the backend do it, says what came of it, and remembers what is
//! to be done later. A slow backend keeps only itself waiting.

mod answers;
mod ending;
mod healing;
mod jobs;
mod noticing;
mod opening;
mod remembering;
mod taking_back;
mod telling;
mod waiting;
mod working;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use psentry_records::{Prefix, Timestamp};

use self::working::UnderWay;
use crate::backend::{Backend, Block, Entry};
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
    /// Where it is looked whether a panic holds.
    panic: Panic,
    /// Since when it works, and what was last put back when, for people who ask.
    began: Timestamp,
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
            began: now,
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
            self.gather();
            let (most, next) = (self.room_for_news(), self.next());
            let busy = |scope| self.is_under_way(scope);
            let (arrived, finish) = self.inbox.take(most, busy, next, known, self.backend.watch());
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
            let left_alone = decided.contains(scope) || self.is_under_way(*scope);
            !left_alone && self.schedule.get(*scope).is_some_and(|plan| plan.ends(now) == ends)
        };
        // What ends by itself takes no room.
        let most = self.room().max(usize::from(ends && self.backend.ends_by_itself()));
        let due: Vec<Prefix> = self.schedule.due(now).into_iter().filter(chosen).take(most).collect();
        let jobs = due.into_iter().filter_map(|scope| self.job(scope, now)).collect();
        self.work(jobs);
    }

    /// When something is to be done next, if nothing comes.
    fn next(&self) -> Option<Timestamp> {
        let moments = [self.next_due(), self.next_look(), self.next_reading(), self.next_glance()];
        moments.into_iter().flatten().min()
    }

    /// When something is due that can be done then: where all room is taken, what is under way is waited for.
    fn next_due(&self) -> Option<Timestamp> {
        let (room, by_itself) = (self.room() > 0, self.backend.ends_by_itself());
        let ends = |due, scope| self.schedule.get(scope).is_some_and(|plan| plan.ends(due));
        let possible = |(due, scope): &(Timestamp, Prefix)| {
            !self.is_under_way(*scope) && (room || (by_itself && ends(*due, *scope)))
        };
        self.schedule.agenda().find(possible).map(|(due, _)| due)
    }

    /// How much may be taken of what arrived. However much arrives, what failed before has its turn, too.
    fn room_for_news(&mut self) -> usize {
        let due = self.next_due().is_some_and(|due| due <= Timestamp::now());
        self.due_first = due && !self.due_first;
        self.room().saturating_sub(usize::from(self.due_first))
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
