//! Who is not wanted any more without a verdict: because his time is over, in a panic, because the allow list names him now, or
//! because somebody flushed. And what the judge is told: that somebody was released before his time, so that new evidence
//! counts at once. In a bare pipe nobody can tell it; then whoever asked hears until when the judge says nothing more of him.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use psentry_control::{error_line, note_line};
use psentry_records::{Action, Common, Prefix, Timestamp};
use psentry_stage::panic_file::Order;
use psentry_stage::{FifoWriter, counted, report_status};

use super::backend_state::{Ask, End, Ruleset, Work};
use super::{Engine, Reply};
use crate::block::Block;
use crate::error::Error;
use crate::journal::{Journal, JournalEntry};
use crate::note::moment;
use crate::outcomes::{EVENTS, PANIC_OVER, everybody, outcome, released};
use crate::reconcile::wanted_there;
use crate::worker::Task;
use psentry_control::BY_HAND;

/// Why all are released.
const FLUSHED: &str = "everybody was released by 'psentry-block flush'";
const ENDED: &str = "psentry-block ended with --release";

impl Engine {
    /// A scope is not wanted any more. On every backend that may have it, it is deleted, and its end is reported then.
    pub(super) fn end(&mut self, scope: Prefix, block: &Block, end: &End) {
        let is_over = block.is_over(self.clock.now());
        for state in &mut self.backends {
            // What ends by itself may have been listed as gone a moment before.
            let had = state.knows(scope) || (is_over && state.sync.listed.is_some());
            // What a backend cannot spare was never there: of its end only verdicts are told that still wait for their outcome.
            if had && (state.caps.takes(block) || state.asks.contains_key(&scope)) {
                state.ending.insert(scope, (block.clone(), end.clone()));
            }
        }
    }

    /// What has ended is not wanted any more. Where the kernel ends it by itself, nothing is to be done.
    pub(super) fn expire(&mut self) {
        for (scope, block) in self.desired.expire(self.clock.now()) {
            // Whatever a clock says later, it has ended.
            self.record(JournalEntry::Released(scope));
            self.end(scope, &block, &End::Released(None));
            for index in 0..self.backends.len() {
                self.expire_on(index, scope, &block);
            }
        }
    }

    fn expire_on(&mut self, index: usize, scope: Prefix, block: &Block) {
        let Some(state) = self.backends.get_mut(index) else { return };
        let by_itself = state.caps.expires
            && state.actual.entries.get(&scope).is_none_or(|entry| entry.ends_with(block))
            && !state.is_in_flight(scope);
        if by_itself && !state.asks.contains_key(&scope) {
            self.deleted(index, scope, Vec::new());
        } else {
            state.queue.push(scope);
        }
    }

    /// How it is, for the service manager.
    pub(super) fn service_status(&self) -> String {
        let wrong = self.guard.wrong_settings();
        if wrong.is_empty() { "ready".to_owned() } else { format!("degraded: {}", wrong.join("; ")) }
    }

    /// Releases the addresses that a file of `--allow` names from now on.
    pub(super) fn heed_allow_list(&mut self) {
        let news = self.guard.news();
        for sentence in &news {
            self.outcomes.report(sentence);
        }
        if !news.is_empty() {
            report_status(&self.service_status());
        }
        let Some(allowed) = self.guard.allowed_anew() else { return };
        let why = "--allow names it from now on";
        let released =
            self.release_those(|scope, _| allowed.touches(scope), &End::Released(Some(why.to_owned())));
        for (scope, block) in released {
            self.tell_judge(scope, &block, None);
            self.outcomes.complain(&format!("{scope} is released: {why}"));
        }
    }

    /// Reads the panic file if it has changed. Whoever was blocked before a panic is released, though it be over by now.
    pub(super) fn heed_panic(&mut self) {
        let mark = self.panic_file.mark();
        if mark == self.panic_mark {
            return;
        }
        if let Some(why) = self.panic_file.unknown() {
            // What was so before still is.
            self.outcomes.complain(&format!(
                "cannot tell whether a panic holds: {}: {why}; its directory has to be open to everybody (mode 0755)",
                self.panic_file.path().display()
            ));
            return;
        }
        self.panic_mark = mark;
        let order = self.panic_file.last();
        let held = self.panic.is_some();
        self.panic = order.clone().filter(|order| order.over.is_none());
        self.panic_over = order.as_ref().and_then(|order| order.over);
        let holds = self.panic.is_some();
        let released = order.map_or(0, |order| self.release_before(&order));
        if holds {
            // Nothing is left of psentry, as the command does it, too: then that is no drift.
            self.purge_everywhere();
        } else if held || released > 0 {
            // Also the sources that the judge convicted while it held.
            self.tell_judge_of_all(PANIC_OVER, None, None);
        }
        let then = if holds { ", and nobody is blocked until 'psentry resume'" } else { "" };
        let what = if holds { "a panic holds" } else { "there was a panic" };
        if holds || released > 0 {
            self.outcomes.report(&format!(
                "{what}: {}{then}",
                counted(released as u64, "block is released", "blocks are released")
            ));
        }
    }

    /// Releases what a panic ends: every block while it holds, and after it the blocks of verdicts from before its end.
    pub(super) fn release_before(&mut self, order: &Order) -> usize {
        let over = order.over.map(|over| self.clock.of_past(over));
        let before = |block: &Block| over.is_none_or(|over| is_before(block, over));
        let why = if order.over.is_none() { order.sentence() } else { "there was a panic".to_owned() };
        self.release_those(|_, block| before(block), &End::Released(Some(why))).len()
    }

    /// Releases every block for which this is true; returns which, and how they were made.
    fn release_those(&mut self, which: impl Fn(Prefix, &Block) -> bool, end: &End) -> Vec<(Prefix, Block)> {
        let scopes = self.desired.iter().filter(|(scope, block)| which(*scope, block));
        let mut scopes: Vec<Prefix> = scopes.map(|(scope, _)| scope).collect();
        scopes.sort_unstable();
        let mut released = Vec::new();
        for scope in scopes {
            let Some(block) = self.desired.release(scope) else { continue };
            self.record(JournalEntry::Released(scope));
            self.end(scope, &block, end);
            self.enqueue_everywhere(scope);
            released.push((scope, block));
        }
        released
    }

    /// A scope must not be blocked after all.
    pub(super) fn refuse(&mut self, scope: Prefix, why: &str) {
        let Some(block) = self.desired.release(scope) else { return };
        self.record(JournalEntry::Released(scope));
        self.outcomes.complain(&format!("refused: {why}"));
        for state in &mut self.backends {
            state.ending.insert(scope, (block.clone(), End::Refused(why.to_owned())));
        }
        self.enqueue_everywhere(scope);
    }

    /// Releases everybody and has every trace deleted.
    pub(super) fn flush(&mut self, reply: Option<&Reply>) {
        let latest = self.latest_judged();
        // Whoever asks gets an answer for each, and knows why.
        let why = reply.is_none().then(|| ENDED.to_owned());
        self.release_those(|_, _| true, &End::Released(why));
        // At the end of psentry-block nobody asks, and no judge goes on.
        if reply.is_some() {
            self.tell_judge_of_all(FLUSHED, latest.as_ref(), reply);
        }
        for index in 0..self.backends.len() {
            let Some(state) = self.backends.get_mut(index) else { continue };
            // Who asked hears of each, as soon as it is gone or is not tried any more.
            let scopes: BTreeSet<Prefix> =
                state.actual.scopes().chain(state.ending.keys().copied()).collect();
            for scope in scopes.iter().filter(|_| reply.is_some()) {
                let ask = Ask::unasked(Action::Block, &Block::default());
                state.ask(*scope, Ask { reply: reply.cloned(), ..ask });
            }
            if state.caps.lists {
                state.sync.purge_asked.extend(reply.cloned());
            }
        }
        self.purge_everywhere();
        // What commands did stays in the journal, which alone knows it, until it is undone.
        self.journal.iter().for_each(Journal::shorten);
    }

    /// Every trace is to be deleted on every backend that can; what commands did is undone one by one.
    fn purge_everywhere(&mut self) {
        for state in self.backends.iter_mut().filter(|state| state.caps.lists) {
            state.sync.ruleset = Ruleset::Purge;
        }
    }

    /// Has a backend delete everything, which is idle.
    pub(super) fn begin_purge(&mut self, index: usize) {
        let Some(state) = self.backends.get_mut(index) else { return };
        (state.sync.ruleset, state.sync.drifted, state.sync.repair) = (Ruleset::Purged, None, None);
        if let Some(lane) = state.lanes.first_mut() {
            lane.give(Task::Purge, Work::Purge);
        }
    }

    /// Every trace of psentry is deleted, or not.
    pub(super) fn purged(&mut self, index: usize, result: Result<(), Error>) {
        let Some(state) = self.backends.get_mut(index) else { return };
        let asked = std::mem::take(&mut state.sync.purge_asked);
        let mut scopes: Vec<Prefix> = state.actual.scopes().collect();
        scopes.sort_unstable();
        if let Err(error) = result {
            let why = format!("{}: not every trace could be deleted: {error}", state.caps.name);
            asked.iter().for_each(|reply| reply.send(error_line(&why)));
            self.outcomes.report(&why);
            // What is still there is deleted one by one, and what is gone nobody else deleted.
            state.sync.no_drift = true;
            state.want_sync();
            scopes.into_iter().for_each(|scope| state.queue.push(scope));
            return;
        }
        for scope in scopes {
            let Some(state) = self.backends.get_mut(index) else { return };
            if wanted_there(scope, &self.desired, &state.caps, self.clock.now()).is_some() {
                // It was blocked anew meanwhile: whoever asks hears what comes of that.
                state.actual.forget(scope);
                state.queue.push(scope);
                continue;
            }
            let asks = state.asks.remove(&scope).unwrap_or_default();
            self.deleted(index, scope, asks);
        }
    }

    /// A block was released.
    pub(super) fn tell_judge(&mut self, scope: Prefix, block: &Block, reply: Option<&Reply>) {
        let record = outcome(released(scope), self.outcomes.host());
        let Some(judge) = &mut self.judge else { return };
        if !judge.write(&record) && is_judged(block) {
            self.not_heard(&format!("it writes no further verdict about {scope}"), block.until, reply);
        }
    }

    /// Everybody was released; why.
    pub(super) fn tell_judge_of_all(&mut self, why: &str, latest: Option<&Block>, reply: Option<&Reply>) {
        let Some(judge) = &mut self.judge else { return };
        if judge.is_read() {
            for body in everybody(why) {
                let record = self.outcomes.outcome(&Common::at(Timestamp::now()), body);
                judge.write(&record);
            }
        } else if let Some(latest) = latest {
            self.not_heard(
                "it writes no further verdict about the sources that it had blocked, about the last one",
                latest.until,
                reply,
            );
        }
    }

    fn not_heard(&self, so: &str, until: Option<Timestamp>, reply: Option<&Reply>) {
        // Where no engine runs, no judge waits for one either.
        let Some(reply) = reply.filter(|_| !self.is_once()) else { return };
        let until =
            until.map_or_else(String::new, |until| format!(" until {}", moment(self.clock.wall(until))));
        reply.send(note_line(&format!("the judge is not told, because nothing reads {EVENTS}: {so}{until}")));
    }

    /// The block of the judge's that ends last.
    pub(super) fn latest_judged(&self) -> Option<Block> {
        let judged = self.desired.iter().map(|(_, block)| block).filter(|block| is_judged(block));
        judged.max_by_key(|block| block.until.map_or((true, None), |until| (false, Some(until)))).cloned()
    }

    /// Tells what waited for room.
    pub(super) fn tell_judge_the_rest(&mut self) {
        let Some(judge) = &mut self.judge else { return };
        if judge.waits() {
            judge.write_waiting();
        }
        let given_up = judge.take_given_up();
        if given_up > 0 {
            self.outcomes.complain(&format!(
                "{EVENTS}: the judge does not read, and does not know of {given_up} releases: it writes no further verdict \
                 about those sources until their blocks would have ended"
            ));
        }
    }

    /// Whether something waits to be told.
    pub(super) fn has_to_tell(&self) -> bool {
        self.judge.as_ref().is_some_and(FifoWriter::waits)
    }

    /// When that is tried again.
    pub(super) fn next_telling(&self, now: Instant) -> Option<Instant> {
        self.judge.as_ref().and_then(|judge| judge.next_try(now))
    }
}

/// Whether a block is of a verdict from before that moment. A time without a fraction stands for its whole second.
pub(super) fn is_before(block: &Block, moment: Timestamp) -> bool {
    let Some(since) = block.since else { return true };
    let cut = if since.micros() % 1_000_000 == 0 { Duration::from_micros(999_999) } else { Duration::ZERO };
    since.plus(cut) <= moment
}

/// Whether the judge may have convicted somebody for it: a person's block it knows nothing of.
fn is_judged(block: &Block) -> bool {
    block.rule.as_deref() != Some(BY_HAND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_without_a_fraction_is_its_whole_second() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        for (since, moment, is) in [
            ("2026-11-22T15:04:05.4Z", "2026-11-22T15:04:05.5Z", true),
            ("2026-11-22T15:04:05.6Z", "2026-11-22T15:04:05.5Z", false),
            ("2026-11-22T15:04:05Z", "2026-11-22T15:04:05.5Z", false),
            ("2026-11-22T15:04:04Z", "2026-11-22T15:04:05.5Z", true),
        ] {
            let block = Block { since: Some(at(since)), ..Block::default() };
            assert_eq!(is_before(&block, at(moment)), is, "{since}");
        }
        assert!(is_before(&Block::default(), at("2026-11-22T15:04:05Z")));
    }
}
