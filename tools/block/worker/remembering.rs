//! What the worker notes in its memory, and what it puts back from it at the start.
//!
//! Noted is what is wanted: a block once it is confirmed, a release as soon as somebody asks for it. An end in time
//! needs no note, nor does what this program releases because it stops: at the next start that is wanted again.

use std::time::Instant;

use psentry_records::{Prefix, Timestamp};

use super::{Job, Worker};
use crate::backend::{Block, Change, Effect, Wish};
use crate::error::Error;
use crate::worker::schedule::Plan;

impl Worker {
    /// Puts back what is remembered and does not stand, before anything else is done. It was told when it was made.
    pub(super) fn restore(&mut self) {
        self.commit();
        let missing = std::mem::take(&mut self.missing);
        if missing.is_empty() {
            return;
        }
        let started = Instant::now();
        // Whom not to block was asked a moment ago.
        let job = |worker: &Self, scope: Prefix| {
            let plan = worker.schedule.get(scope)?.clone();
            Some((Change { scope, wish: Wish::Block(plan.block.clone()) }, Job::Repair(plan)))
        };
        for missing in missing.chunks(self.room().max(1)) {
            let jobs = missing.iter().filter_map(|scope| job(self, *scope)).collect();
            self.work(jobs);
        }
        self.rest();
        // What slipped in before the panic was seen.
        self.open_up();
        self.short = Timestamp::now();
        let stands = |scope: &&Prefix| self.schedule.get(**scope).is_some_and(|plan| plan.stands().is_some());
        let back = missing.iter().filter(stands).count();
        if let Some(memory) = self.memory.as_ref().filter(|_| back > 0) {
            self.reporter.tell(&format!(
                "{}: put back {back} block{} remembered in {}, within {} ms",
                self.backend.name(),
                if back == 1 { "" } else { "s" },
                memory.path().display(),
                started.elapsed().as_millis()
            ));
        }
    }

    /// Notes what these changes came to, before it is told.
    pub(super) fn remember(&mut self, done: &[(Change, Job, Result<Effect, Error>)]) {
        if self.memory.is_none() {
            return;
        }
        let now = Timestamp::now();
        for (change, job, result) in done {
            let plan = self.schedule.get(change.scope);
            match &change.wish {
                Wish::Block(block) => {
                    // What stands like this is remembered like this.
                    let alike = |stands: &Block| {
                        let Block { until, ports, unproven, .. } = stands;
                        (until, ports, unproven) == (&block.until, &block.ports, &block.unproven)
                    };
                    let known = plan.and_then(Plan::stands).is_some_and(alike);
                    if result.is_ok() && !known {
                        self.note(change.scope, Some(block));
                    }
                }
                Wish::Release(_) => {
                    let wanted = plan.is_some_and(|plan| !plan.is_over(now));
                    let meant = match job {
                        Job::Asked(_) => true,
                        // Only a shorter block, whose time is over.
                        Job::Lapse(_) => false,
                        _ => result.is_ok() && !self.parting,
                    };
                    if wanted && meant {
                        self.note(change.scope, None);
                    }
                }
            }
        }
        self.commit();
    }

    /// Notes how a scope is wanted from now on; `None`: let in.
    pub(super) fn note(&mut self, scope: Prefix, block: Option<&Block>) {
        if let Some(memory) = &mut self.memory {
            memory.note(scope, block);
        }
    }

    /// Has what was noted written.
    pub(super) fn commit(&mut self) {
        if let Some(memory) = &mut self.memory {
            memory.commit();
        }
    }
}
