//! What people ask. What is there is listed anew first, so that the answer is what is there now; a backend that takes too long is
//! named as that, and holds up no answer.

use std::time::{Duration, Instant};

use psentry_control::{error_line, json_line};
use psentry_records::{OutcomeBody, OutcomeResult, Prefix, Record, Timestamp};

use super::backend_state::BackendState;
use super::dispatch::Refused;
use super::{Engine, Reply};
use crate::block::{Block, Entry, SLACK};
use crate::brake::Holding;
use crate::desired::Full;
use crate::error::Error;
use crate::journal::Journal;
use crate::outcomes::listed;
use crate::protocol::{Prospect, Report};
use crate::reconcile::wanted_there;
use psentry_control::Question;

/// How long backends have time to say what is there, and to do what is asked of them.
const TIME: Duration = Duration::from_secs(3);
const TIME_OF_CHANGE: Duration = Duration::from_secs(10);

/// A question that waits for backends.
pub(super) struct Pending {
    question: Question,
    reply: Reply,
    asked: Instant,
}

impl Pending {
    /// Until when it waits for them.
    pub(super) fn deadline(&self) -> Instant {
        self.asked + if self.question.changes() { TIME_OF_CHANGE } else { TIME }
    }
}

impl Engine {
    /// Answers a question, at once or when backends have done what that takes.
    pub(crate) fn ask(&mut self, question: Question, reply: Reply) {
        match &question {
            Question::Verdict(verdict) => self.verdict(verdict, Some(reply.clone())),
            Question::Flush => self.flush(Some(&reply)),
            Question::Confirm => {
                return reply.send(error_line("psentry-block hides no ports; psentry-trap does"));
            }
            // One that is there for this question alone has just listed.
            _ if self.is_once() => {}
            Question::List | Question::Why { .. } | Question::Status => {
                self.backends.iter_mut().for_each(BackendState::want_sync);
            }
        }
        self.questions.push(Pending { question, reply, asked: Instant::now() });
    }

    /// Answers what can be answered by now.
    pub(super) fn answer_questions(&mut self) {
        let now = Instant::now();
        // One text for all who ask for it now.
        let mut all = None;
        for pending in std::mem::take(&mut self.questions) {
            let is_over = now >= pending.deadline();
            let Pending { question, reply, asked } = &pending;
            if question.changes() {
                if is_over {
                    self.answer_late(reply);
                } else if reply.is_awaited() {
                    self.questions.push(pending);
                }
                continue;
            }
            let is_late = |state: &BackendState| {
                let listed = state.sync.listed.is_some_and(|listed| listed >= *asked);
                state.caps.lists && !listed && state.broken.is_none() && !self.is_once()
            };
            let late: Vec<bool> = self.backends.iter().map(is_late).collect();
            if !is_over && late.contains(&true) {
                self.questions.push(pending);
                continue;
            }
            let answer = match question {
                Question::Status => self.status(&late),
                Question::Why { addr } => self.why(*addr),
                _ => all.get_or_insert_with(|| self.list(None)).clone(),
            };
            reply.send(answer);
            if *question != Question::Status
                && let Some(error) = self.not_listed(&late)
            {
                reply.send(error_line(&error));
            }
        }
    }

    /// That what is there on some backend is not known, in a sentence; `None`: all of it is.
    fn not_listed(&self, late: &[bool]) -> Option<String> {
        let why = self.backends.iter().zip(late).filter_map(|(state, late)| {
            let name = state.caps.name;
            match (late, state.trouble()) {
                (_, Some(why)) => Some(format!("{name}: {why}")),
                (true, None) => Some(unanswered(name, TIME)),
                (false, None) => None,
            }
        });
        let why: Vec<String> = why.collect();
        (!why.is_empty()).then(|| why.join("; "))
    }

    /// A backend that has not done what was asked on the control socket is named, and may still do it.
    fn answer_late(&mut self, reply: &Reply) {
        for state in &mut self.backends {
            let name = state.caps.name;
            let why = unanswered(name, TIME_OF_CHANGE) + ", and may still do it";
            if state.sync.purge_asked.extract_if(.., |other| other.is_same(reply)).count() > 0 {
                reply.send(error_line(&why));
            }
            for (scope, ask) in state.all_asks() {
                if ask.reply.take_if(|other| other.is_same(reply)).is_none() {
                    continue;
                }
                let outcome = OutcomeBody::new(ask.action, scope, Some(name), OutcomeResult::Failed);
                let outcome = OutcomeBody { error: Some(why.clone()), ..outcome };
                let common = ask.common.clone();
                let record = Record::Outcome(psentry_records::Outcome { common, body: outcome });
                super::results::send(Some(reply), &record);
            }
        }
    }

    /// All blocks that are there, or those that overlap a scope, with those that are wanted and are not.
    fn list(&self, around: Option<Prefix>) -> Vec<u8> {
        let mut blocks: Vec<(Prefix, usize, Block, Option<String>)> = Vec::new();
        let meant = |scope: Prefix| around.is_none_or(|around| around.overlaps(scope));
        for (index, state) in self.backends.iter().enumerate() {
            let there = state.actual.entries.iter().filter(|(scope, _)| meant(**scope));
            blocks.extend(there.map(|(scope, entry)| (*scope, index, self.known(*scope, entry), None)));
            let Some(around) = around else { continue };
            for (scope, block) in self.desired.overlapping(around) {
                if state.actual.entries.contains_key(&scope) || !state.caps.takes(block) {
                    continue;
                }
                let why = match state.backoff.get(scope) {
                    Some(failure) => failure.why.clone(),
                    None if state.queue.contains(scope) => "it waits for its turn".to_owned(),
                    None if state.is_in_flight(scope) => "it is being blocked".to_owned(),
                    None => "it is wanted, and is not there".to_owned(),
                };
                blocks.push((scope, index, self.by_wall(block), Some(why)));
            }
        }
        blocks.sort_by_key(|(scope, index, ..)| (*scope, *index));
        let mut text = Vec::new();
        let mut line = Vec::new();
        for (scope, index, block, missing) in blocks {
            let Some(state) = self.backends.get(index) else { continue };
            if listed(scope, state.caps.name, &block, missing).encode(&mut line).is_ok() {
                text.extend_from_slice(&line);
            }
        }
        text
    }

    /// All that is known of a block that is there: what is there, and what is known of what is wanted.
    fn known(&self, scope: Prefix, entry: &Entry) -> Block {
        let there = Block::from(entry);
        let block = match self.desired.get(scope) {
            Some(wanted) if entry.is(wanted) => wanted.clone(),
            Some(wanted) => Block {
                rule: there.rule.clone().or_else(|| wanted.rule.clone()),
                since: wanted.since.or(there.since),
                reason: wanted.reason.clone(),
                ..there
            },
            None => there,
        };
        self.by_wall(&block)
    }

    fn why(&mut self, scope: Prefix) -> Vec<u8> {
        let mut text = json_line(&self.prospect(scope));
        text.extend(self.list(Some(scope)));
        text
    }

    /// What would become of a verdict that blocks `scope` now.
    fn prospect(&mut self, scope: Prefix) -> Prospect {
        let keeps = |why: String| Prospect { may_block: false, why: Some(why) };
        if let Some(order) = &self.panic {
            return keeps(order.sentence());
        }
        match self.refusal(scope) {
            Ok(None) => {}
            Ok(Some(Refused::Never(why) | Refused::NotYet(why))) => return keeps(why),
            Err(error) => return keeps(error.to_string()),
        }
        if self.desired.is_full() {
            return keeps(format!("it would be one block more than --max-blocks {} allows", self.max_blocks));
        }
        // The brake holds only what is not proven, and whom it refused is not blocked before the next verdict.
        let now = Instant::now();
        let at_its_limit = self.brake.as_mut().is_some_and(|brake| brake.would_hold(scope, now));
        let limit = || "the brake has let through all unproven blocks that it does in a minute".to_owned();
        let (brake, full) = self.held_back(now);
        let brake = brake.map(Holding::sentence).or_else(|| at_its_limit.then(limit));
        Prospect { may_block: true, why: brake.or(full.map(Full::sentence)) }
    }

    /// What keeps new blocks from being made.
    fn held_back(&self, now: Instant) -> (Option<Holding>, Option<Full>) {
        let brake = self.brake.as_ref().and_then(|brake| brake.holding(now));
        (brake, self.capacity.full(self.desired.len(), self.max_blocks, now))
    }

    /// How each backend is; `late`: which of them have not said what is there.
    fn status(&self, late: &[bool]) -> Vec<u8> {
        let reports = self.backends.iter().enumerate();
        let reports = reports.map(|(index, _)| self.report(index, late.get(index) == Some(&true)));
        reports.flat_map(|report| json_line(&report)).collect()
    }

    fn report(&self, index: usize, is_late: bool) -> Report {
        let (now, clock) = (Instant::now(), self.clock.now());
        let Some(state) = self.backends.get(index) else { return Report::default() };
        let held = |scope: Prefix| state.backoff.get(scope).is_some_and(|failure| failure.held);
        let wanted = self.desired.iter().map(|(scope, _)| scope);
        let wanted = wanted.filter(|scope| !held(*scope));
        let wanted: Vec<(Prefix, &Block)> = wanted
            .filter_map(|scope| Some((scope, wanted_there(scope, &self.desired, &state.caps, clock)?)))
            .collect();
        // What is about to end may have ended in the kernel a moment before.
        let ends = |block: &Block| state.caps.expires && block.is_over(clock.plus(SLACK));
        let is_there = |(scope, block): &&(Prefix, &Block)| {
            ends(block) || state.actual.entries.get(scope).is_some_and(|entry| entry.is(block))
        };
        let missing = wanted.iter().filter(|pair| !is_there(pair));
        let queued =
            missing.filter(|(scope, _)| state.queue.contains(*scope) || state.is_in_flight(*scope)).count();
        let name = state.caps.name;
        let trouble = is_late.then(|| unanswered(name, TIME));
        let trouble = trouble.or_else(|| state.trouble().map(Error::to_string));
        let unread = trouble.is_some();
        let wall = |moment: Timestamp| self.clock.wall(moment);
        let latest = trouble.map(|why| (wall(clock), why));
        let latest = latest.or_else(|| state.backoff.latest().map(|(at, why)| (wall(*at), why.clone())));
        let (error_at, error) = latest.unzip();
        let (repaired, repair) = state.repaired.clone().unzip();
        let (brake, full) = self.held_back(now);
        let report = Report {
            backend: name.to_owned(),
            since: None,
            wanted: Some(wanted.len()),
            standing: (!unread).then(|| wanted.iter().filter(is_there).count()),
            queued,
            failing: state.backoff.failing(),
            waiting: state.backoff.held(),
            shadowed: state.shadowed.clone(),
            error,
            error_at,
            repair,
            repaired,
            memory: self.journal.as_ref().and_then(Journal::trouble),
            unwritten: self.outcomes.unwritten(),
            wrong_settings: Some(self.guard.wrong_settings().join("; ")).filter(|wrong| !wrong.is_empty()),
            panic: self.panic.clone(),
            brake,
            full,
        };
        let since = (report.is_whole() && report.shadowed.is_empty()).then_some(state.short);
        Report { since, ..report }
    }
}

/// That a backend has not answered in time.
fn unanswered(name: &str, time: Duration) -> String {
    format!("{name} has not answered within {} s", time.as_secs())
}
