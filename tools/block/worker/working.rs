//! What the backend is given to do, and what came of it. Most backends know at once; one whose changes take their time
//! begins them, as many as it has room for, and tells of each when it is over. Meanwhile the worker does the rest, and
//! leaves the scopes that are under way alone.

use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use psentry_records::{Prefix, Timestamp};

use super::{Job, Worker, jobs};
use crate::backend::{Block, Change, Effect, Wish};
use crate::error::Error;

/// A change that the backend has begun.
pub(super) struct UnderWay {
    pub(super) wish: Wish,
    job: Job,
    /// Everybody was let in meanwhile: what it makes does not stay.
    pub(super) regretted: bool,
}

impl Worker {
    /// How many changes may be begun now.
    pub(super) fn room(&self) -> usize {
        self.backend.at_once()
    }

    /// Has the backend do it, in pieces that it takes well, and says what came of each as soon as that is known.
    pub(super) fn work(&mut self, jobs: Vec<(Change, Job)>) {
        let mut jobs = jobs.into_iter().peekable();
        while jobs.peek().is_some() {
            self.wait_until(|worker| worker.room() > 0);
            self.pulse.step();
            let now = Timestamp::now();
            let some = jobs
                .by_ref()
                .take(self.room())
                .map(|(change, job)| jobs::in_time(change, job, now))
                .collect();
            // First the panic: what it let in does not wait for a logout, to be made after that.
            let some = self.hold_off(some).into_iter();
            let (changes, reasons): (Vec<Change>, Vec<Job>) =
                some.filter_map(|(change, job)| self.not_yet(change, job)).unzip();
            if changes.is_empty() {
                continue;
            }
            let results = self.backend.begin(&changes, now);
            let mut done = Vec::with_capacity(changes.len());
            for ((change, job), result) in changes.into_iter().zip(reasons).zip(results) {
                match result {
                    Some(result) => done.push((change, job, result)),
                    None => {
                        let begun = UnderWay { wish: change.wish, job, regretted: false };
                        self.under_way.insert(change.scope, begun);
                    }
                }
            }
            self.conclude(done);
        }
    }

    /// The same, and waits until nothing is under way.
    pub(super) fn see_through(&mut self, jobs: Vec<(Change, Job)>) {
        self.work(jobs);
        self.rest();
    }

    /// Waits until nothing is under way.
    pub(super) fn rest(&mut self) {
        self.wait_until(|worker| worker.under_way.is_empty());
    }

    fn wait_until(&mut self, enough: impl Fn(&Self) -> bool) {
        while !enough(self) {
            if let Some(watch) = self.backend.watch() {
                self.pulse.wait();
                // Interrupted, it only looks sooner.
                let _ = poll(&mut [PollFd::new(watch.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
                self.pulse.step();
            }
            self.gather();
        }
    }

    /// Takes in what is over of what was under way.
    pub(super) fn gather(&mut self) {
        let mut regretted = Vec::new();
        let mut done = Vec::new();
        for (change, result) in self.backend.done() {
            let Some(begun) = self.under_way.remove(&change.scope) else { continue };
            if begun.regretted {
                regretted.push(change.scope);
            }
            done.push((change, begun.job, result));
        }
        self.conclude(done);
        let jobs = regretted.into_iter().filter_map(|scope| self.regret(scope)).collect();
        self.work(jobs);
    }

    fn conclude(&mut self, done: Vec<(Change, Job, Result<Effect, Error>)>) {
        self.remember(&done);
        let now = Timestamp::now();
        for (change, job, result) in done {
            match change.wish {
                Wish::Block(block) => self.blocked(change.scope, block, job, result, now),
                Wish::Release(block) => self.released(change.scope, block, job, result, now),
            }
        }
    }

    /// Whether a change of this scope is under way.
    pub(super) fn is_under_way(&self, scope: Prefix) -> bool {
        self.under_way.contains_key(&scope)
    }

    /// The blocks that are being made.
    pub(super) fn being_made(&self) -> impl Iterator<Item = (Prefix, &Block)> {
        let stays = self.under_way.iter().filter(|(_, begun)| !begun.regretted);
        stays.filter_map(|(scope, begun)| Some((*scope, begun.wish.block()?)))
    }
}
