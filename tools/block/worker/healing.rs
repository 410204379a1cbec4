//! What others damaged of the blocks of this backend is put back, at once, but never in a fight.
//!
//! What is put back has no outcome of its own, however many blocks it is: it was applied before, and it is. One
//! sentence tells of it. What cannot be put back is an outcome `failed`, is tried again, and is `applied` then.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use psentry_records::{Prefix, Timestamp};

use super::{Job, Worker};
use crate::backend::{Block, Change, Entry, Wish};
use crate::error::Error;
use crate::worker::schedule::{Plan, State};

/// How far an end may be from the planned one: the kernel's clock and ours are not the same.
const SLACK: Duration = Duration::from_secs(2);

/// What is to be done about what stands.
#[derive(Default)]
struct Differences {
    /// What does not stand, or not as it was decided.
    missing: Vec<Prefix>,
    /// What somebody had end sooner, or opened a port of.
    shortened: Vec<(Prefix, Block)>,
}

impl Worker {
    /// When what was changed may be looked at; `None`: nothing was.
    pub(super) fn next_look(&self) -> Option<Timestamp> {
        self.damage.as_ref().filter(|_| !self.waits_for_mending)?;
        let (now, clock) = (Timestamp::now(), Instant::now());
        let moment = self.pace.not_before(clock).unwrap_or(clock);
        Some(now.plus(moment.saturating_duration_since(clock)))
    }

    /// Puts back what others damaged, if it is time.
    pub(super) fn mend(&mut self) {
        let now = Instant::now();
        if self.damage.is_some() && !self.waits_for_mending && self.pace.not_before(now).is_none() {
            self.heal(now);
        }
    }

    /// Compares what is to stand with what stands, and makes it so.
    fn heal(&mut self, started: Instant) {
        let now = Timestamp::now();
        self.rest();
        let who = self.damage.take().unwrap_or_default();
        let wanted = self.scopes_with(|plan| plan.should_stand(now));
        let stands = |scope: &Prefix| Some((*scope, self.schedule.get(*scope)?.stands()?));
        let to_stand: Vec<(Prefix, &Block)> = wanted.iter().filter_map(stands).collect();
        let mended = self.backend.mend(&to_stand);
        let found = match &mended {
            Ok(_) => self.backend.list(),
            // Without what they stand in none of them stands, whatever is listed.
            Err(_) => Ok(Vec::new()),
        };
        // What was decided just before it was looked at counts, too.
        self.hear();
        let differences = match found {
            Ok(found) => self.differences(&wanted, found),
            Err(error) => {
                self.damage.get_or_insert(who);
                return self.not_read(&error);
            }
        };
        self.unread = None;
        for (scope, is) in differences.shortened {
            self.stands_as(scope, is);
        }
        self.commit();
        if differences.missing.is_empty() && matches!(mended, Ok(false)) {
            self.pace.looked(Instant::now());
            return;
        }
        let jobs: Vec<_> = differences.missing.iter().filter_map(|scope| self.repair(*scope)).collect();
        self.work(jobs);
        let stands = |scope: &&Prefix| self.schedule.get(**scope).is_some_and(|plan| plan.stands().is_some());
        let back = differences.missing.iter().filter(stands).count();
        let what = match (back, &mended) {
            (0, Ok(_)) => "the ruleset of psentry".to_owned(),
            (back, Ok(true)) => format!("the ruleset of psentry and {}", blocks(back)),
            (back, _) => blocks(back),
        };
        let now = Timestamp::now();
        self.short = now;
        self.reporter.counters.repairs.add();
        self.repaired = Some((now, format!("{what}, which {who} took away")));
        self.tell_repair(&what, mended, &who, started.elapsed());
        self.slow_down();
    }

    /// What stands cannot be read. Nobody takes anything away again and again; each reason is told once. What somebody has
    /// to mend by hand is looked at again when it was changed.
    fn not_read(&mut self, error: &Error) {
        self.pace.unread(Instant::now());
        self.waits_for_mending = matches!(error, Error::Damaged { .. });
        let why = error.to_string();
        if self.unread.as_ref() != Some(&why) {
            let name = self.backend.name();
            self.reporter.say(&format!("{name}: what stands after a change by others is not known: {why}"));
            self.unread = Some(why);
        }
    }

    /// One more repair; if they are too many, that is told.
    fn slow_down(&mut self) {
        if let Some(wait) = self.pace.repaired(Instant::now()) {
            let name = self.backend.name();
            self.reporter.tell(&format!(
                "somebody takes psentry's blocks on {name} away again and again; from now on they are put back only \
                 every {} s, and less often, until a minute passes in peace: find out who it is",
                wait.as_secs()
            ));
        }
    }

    fn tell_repair(&self, what: &str, mended: Result<bool, Error>, who: &str, took: Duration) {
        let name = self.backend.name();
        let trouble = mended.err().map_or_else(String::new, |error| format!("; not all of it: {error}"));
        let took = took.as_millis();
        self.reporter.tell(&format!("{name}: {who} took away {what}; put back within {took} ms{trouble}"));
    }

    fn differences(&self, wanted: &[Prefix], found: Vec<Entry>) -> Differences {
        let found: HashMap<Prefix, Entry> = found.into_iter().map(|entry| (entry.scope, entry)).collect();
        let mut differences = Differences::default();
        for scope in wanted {
            let Some(stands) = self.schedule.get(*scope).and_then(Plan::stands) else { continue };
            let Some(entry) = found.get(scope) else {
                differences.missing.push(*scope);
                continue;
            };
            let later = |a: Option<Timestamp>, b: Option<Timestamp>| match (a, b) {
                (None, Some(_)) => true,
                (Some(a), Some(b)) => a.since(b) > SLACK,
                (_, None) => false,
            };
            // Brought back from a saved ruleset, with the time that it had left then; or it spares what this one does not, or
            // the other way round.
            if later(entry.until, stands.until) || entry.unproven != stands.unproven {
                differences.missing.push(*scope);
                continue;
            }
            let until =
                if later(stands.until, entry.until) && !entry.early { entry.until } else { stands.until };
            match left_of(stands, entry) {
                Some(ports) => {
                    let is = Block { until, ports, ..stands.clone() };
                    if is != *stands {
                        differences.shortened.push((*scope, is));
                    }
                }
                None => differences.missing.push(*scope),
            }
        }
        differences
    }

    /// Somebody opened ports of these scopes, and left others shut: that was chosen.
    pub(super) fn opened(&mut self, scopes: &[Prefix]) -> Result<(), Error> {
        let found: HashMap<Prefix, Entry> =
            self.backend.list()?.into_iter().map(|entry| (entry.scope, entry)).collect();
        for scope in scopes {
            let stands = self.schedule.get(*scope).and_then(Plan::stands).cloned();
            let Some((stands, entry)) = stands.zip(found.get(scope)) else { continue };
            if let Some(ports) = left_of(&stands, entry).filter(|ports| *ports != stands.ports) {
                self.stands_as(*scope, Block { ports, ..stands });
            }
        }
        Ok(())
    }

    /// What puts a block back, with the time that it has left. Whom to block is asked anew.
    pub(super) fn repair(&mut self, scope: Prefix) -> Option<(Change, Job)> {
        let plan = self.schedule.get(scope)?.clone();
        if matches!(plan.state, State::Failing { .. }) {
            // The longer one is tried at once, for the older one is gone.
            self.schedule.lapses(scope);
            return self.again(scope);
        }
        let (_, job) = self.again(scope)?;
        Some(match job {
            Job::Again(plan) => (Change { scope, wish: Wish::Block(plan.block.clone()) }, Job::Repair(plan)),
            job => (Change { scope, wish: Wish::Release(plan.block) }, job),
        })
    }
}

/// Which of a block's ports are shut by what stands; `None`: it is another block. Of a scope's ports some are open and some
/// are not: that was chosen.
fn left_of(block: &Block, entry: &Entry) -> Option<Vec<u16>> {
    match (block.ports.is_empty(), entry.ports.is_empty()) {
        (true, true) => Some(Vec::new()),
        (false, false) => {
            let left = block.ports.iter().copied().filter(|port| entry.ports.contains(port));
            Some(left.collect()).filter(|left: &Vec<u16>| !left.is_empty())
        }
        _ => None,
    }
}

fn blocks(count: usize) -> String {
    format!("{count} block{}", if count == 1 { "" } else { "s" })
}
