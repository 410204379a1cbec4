//! What a verdict changes. Guard, brake, capacity and panic are asked here, before anything is wanted.

use std::time::{Duration, Instant};

use psentry_records::{Action, OutcomeBody, OutcomeResult, Prefix, Verdict};
use psentry_stage::{clean, counted};

use super::backend_state::{Ask, End};
use super::release::is_before;
use super::{Engine, Reply};
use crate::block::{Block, probed};
use crate::brake::TurnedDown;
use crate::desired::Change;
use crate::journal::JournalEntry;
use crate::reach::Ports;

impl Engine {
    /// Heeds a verdict; its outcomes go to `reply`, too.
    pub(crate) fn verdict(&mut self, verdict: &Verdict, reply: Option<Reply>) {
        // Its time is one of the wall clock as it is now.
        self.look_at_clock();
        // What is over is no part of what is wanted now.
        self.expire();
        self.outcomes.counters.verdicts += 1;
        match verdict.body.action {
            Action::Watch => {}
            Action::Unblock => self.unblock(verdict, reply),
            Action::Block => self.block(verdict, reply),
        }
    }

    fn unblock(&mut self, verdict: &Verdict, reply: Option<Reply>) {
        let scope = self.released_by(verdict);
        let released = self.desired.release(scope);
        if let Some(block) = &released {
            self.record(JournalEntry::Released(scope));
            self.end(scope, block, &End::Released(None));
            self.tell_judge(scope, block, reply.as_ref());
        }
        if !self.backends.iter().any(|backend| backend.knows(scope)) {
            // Nothing waits for it, so that requests for whom nobody knows take no room.
            let names: Vec<Option<String>> = match &released {
                // It was wanted, and is there nowhere: such as after a reboot, before anything was put back.
                Some(_) => vec![None],
                None => self.backends.iter().map(|backend| Some(backend.caps.name.to_owned())).collect(),
            };
            let result = if released.is_some() { OutcomeResult::Released } else { OutcomeResult::Already };
            self.commit();
            for backend in names {
                let outcome =
                    OutcomeBody { backend, ..OutcomeBody::new(Action::Unblock, scope, None, result) };
                self.tell(&verdict.common, outcome, reply.as_ref());
            }
            return;
        }
        self.ask_backends(verdict, scope, false, None, reply);
    }

    fn block(&mut self, verdict: &Verdict, reply: Option<Reply>) {
        let block = self.wanted_by(verdict);
        let outcome = |result| OutcomeBody::new(Action::Block, verdict.body.scope, None, result);
        let outcome = if block.is_over(self.clock.now()) {
            let until = block.until.map(|until| self.clock.wall(until));
            OutcomeBody { until, ..outcome(OutcomeResult::Expired) }
        } else {
            match self.want(verdict, block) {
                Ok((scope, already, remark)) => {
                    return self.ask_backends(verdict, scope, already, remark, reply);
                }
                Err((result, why)) => OutcomeBody { error: Some(why), ..outcome(result) },
            }
        };
        self.tell(&verdict.common, outcome, reply.as_ref());
    }

    /// What a verdict blocks is wanted from now on: whom that is, whether it was already, and a remark on it.
    fn want(
        &mut self,
        verdict: &Verdict,
        block: Block,
    ) -> Result<(Prefix, bool, Option<String>), (OutcomeResult, String)> {
        let refused = |why: String| (OutcomeResult::Refused, why);
        self.heed_changes();
        self.heed_panic();
        if let Some(order) = &self.panic {
            return Err(refused(order.sentence()));
        }
        if self.panic_over.is_some_and(|over| is_before(&block, self.clock.of_past(over))) {
            // What is new convicts it again.
            self.tell_judge(verdict.body.scope, &block, None);
            return Err(refused("there was a panic after this verdict: everybody was released".to_owned()));
        }
        let (scope, remark) = self.guarded(verdict).inspect_err(|(result, why)| {
            if *result == OutcomeResult::Refused {
                self.outcomes.counters.guarded += 1;
                self.outcomes.complain(&format!("refused: {why}"));
            }
        })?;
        let new = self.desired.get(scope).is_none();
        if new
            && !self.desired.is_full()
            && block.unproven
            && let Some(why) = self.braked(scope)
        {
            return Err(refused(why));
        }
        match self.desired.block(scope, block) {
            Change::Wanted => {
                self.capacity.had_room(Instant::now());
                self.record_wanted(scope);
                self.backends.iter_mut().for_each(|state| _ = state.ending.remove(&scope));
                Ok((scope, false, remark))
            }
            Change::Already => Ok((scope, true, remark)),
            Change::Full(why) => {
                self.capacity.refused(1, Instant::now());
                self.outcomes.counters.no_room += 1;
                self.outcomes.complain(&format!("refused: {why}"));
                Err(refused(why))
            }
        }
    }

    /// The block that a verdict asks for, by the engine's clock. A time in the future counts as now: no verdict lasts longer than
    /// its duration.
    fn wanted_by(&self, verdict: &Verdict) -> Block {
        let now = self.clock.now();
        let from = verdict.common.timestamp.min(self.clock.wall(now));
        let start = self.clock.of_wall(from).min(now);
        Block {
            until: verdict.body.duration.map(|seconds| start.plus(Duration::from_secs(seconds))),
            rule: verdict.body.rule.as_deref().and_then(clean),
            addr: verdict.common.src_ip,
            port: verdict.common.dest_port.or_else(|| verdict.body.ports.first().copied()),
            proto: verdict.common.proto,
            since: Some(start),
            reason: verdict.body.reason.as_deref().and_then(clean),
            offence: verdict.body.offence,
            unproven: verdict.body.handshake == Some(false),
            ports: match self.ports {
                Ports::All => Vec::new(),
                Ports::Probed => probed(verdict.body.ports.iter().copied().chain(verdict.common.dest_port)),
            },
        }
    }

    /// Whom a verdict may block: its scope, or where that holds an address that must not be blocked, its source alone, with a
    /// sentence that says so. Without knowing who must not be blocked, nobody is.
    fn guarded(&mut self, verdict: &Verdict) -> Result<(Prefix, Option<String>), (OutcomeResult, String)> {
        let scope = verdict.body.scope;
        let failed = |error: psentry_linux::Error| (OutcomeResult::Failed, error.to_string());
        let Some(why) = self.guard.refusal(scope).map_err(failed)? else { return Ok((scope, None)) };
        let source = verdict.common.src_ip.map(Prefix::host);
        let source = source.filter(|source| *source != scope && scope.contains(source.addr()));
        if let Some(source) = source
            && self.guard.refusal(source).map_err(failed)?.is_none()
        {
            let remark = format!("{why}; {} alone is blocked", source.addr());
            return Ok((source, Some(remark)));
        }
        Err((OutcomeResult::Refused, why))
    }

    /// Whom a verdict releases: its scope, or where that alone could not be blocked, the source that was blocked in its place.
    fn released_by(&mut self, verdict: &Verdict) -> Prefix {
        let scope = verdict.body.scope;
        if self.desired.get(scope).is_some() {
            return scope;
        }
        self.guarded(verdict).map_or(scope, |(whom, _)| whom)
    }

    /// Why the brake refuses a new block that no handshake proves; `None`: it does not.
    fn braked(&mut self, scope: Prefix) -> Option<String> {
        let TurnedDown { why, first } = self.brake.as_mut()?.hold(scope, Instant::now())?;
        self.outcomes.counters.braked += 1;
        if first {
            self.outcomes.report(&format!(
                "THE BRAKE HOLDS: {scope} is not blocked, for {why}; more are turned down until it is a minute quiet, but \
                 none that handshakes prove"
            ));
        }
        Some(why)
    }

    /// Says that the brake has let go, or at the `end` that it holds.
    pub(super) fn report_brake(&mut self, end: bool) {
        let Some(brake) = &mut self.brake else { return };
        let (count, what) = match (brake.let_go(Instant::now()), brake.holds().filter(|_| end)) {
            (Some(count), _) => (count, "has let go"),
            (None, Some(count)) => (count, "held until the end"),
            (None, None) => return,
        };
        self.outcomes.report(&format!(
            "the brake {what}: {} turned down",
            counted(count, "unproven block was", "unproven blocks were")
        ));
    }

    /// Every backend is to give an outcome, the first one first.
    fn ask_backends(
        &mut self,
        verdict: &Verdict,
        scope: Prefix,
        already: bool,
        remark: Option<String>,
        reply: Option<Reply>,
    ) {
        let (common, action) = (verdict.common.clone(), verdict.body.action);
        let ask = Ask { common, action, already, remark, reply };
        for backend in &mut self.backends {
            backend.ask(scope, ask.clone());
        }
        self.enqueue(0, scope);
    }
}
