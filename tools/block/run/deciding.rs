//! What becomes of a verdict: what the ledger, the guard, the brake and a panic say of it is either told or handed to the
//! backends.

use std::time::Instant;

use psentry_records::{Action, OutcomeBody, OutcomeResult, Prefix, Timestamp, Verdict};

use super::Stage;
use crate::backend::{Block, Wish};
use crate::inbox::{Ask, Found};
use crate::ledger::Decision;
use crate::panic::Mark;
use crate::report::body;

impl Stage {
    /// Decides what a verdict changes, and has that done.
    pub(crate) fn verdict(&mut self, verdict: &Verdict) {
        self.reporter.counters.verdicts.add();
        let now = Timestamp::now();
        let (action, scope) = (verdict.body.action, verdict.body.scope);
        let mut unknown = None;
        // Before it is asked whether one holds: what is declared from here on counts for this verdict.
        let before = std::mem::replace(&mut self.mark, self.panic.mark());
        let opened = self.workers.iter().fold(false, |opened, worker| worker.inbox.opened() | opened);
        // By the mark it is known at once, and once: a backend that sees the panic later tells of what stood before this.
        // Only where no mark could be made it is gone by what backends tell.
        if self.mark.is_after(before) || (opened && self.mark == Mark::default()) {
            self.ledger.clear();
        }
        if action == Action::Block
            && let Some(order) = self.panic.holds()
        {
            self.ledger.clear();
            let error = Some(order.sentence());
            let outcome = OutcomeBody { error, ..body(action, scope, None, OutcomeResult::Refused) };
            return self.reporter.outcome(Some(&verdict.common), outcome);
        }
        for Found { scope, was, is } in self.workers.iter().flat_map(|worker| worker.inbox.found()) {
            if self.workers.len() == 1 {
                self.ledger.correct(scope, &was, is);
            } else {
                self.ledger.hear(scope, &is);
            }
        }
        if let Some(allowed) = self.guard.allowed_anew(&mut self.allowed) {
            self.ledger.let_in(|scope| allowed.touches(scope));
        }
        self.make_room();
        let (guard, new) = (&self.guard, !self.ledger.holds(scope, now));
        let decision = self.ledger.decide(verdict, now, |scope| {
            guard.refusal(scope).unwrap_or_else(|error| {
                unknown = Some(error.to_string());
                Some(String::new())
            })
        });
        for sentence in self.guard.news() {
            self.reporter.tell(&sentence);
        }
        let mut outcome = body(action, scope, None, OutcomeResult::Refused);
        match decision {
            Decision::Nothing => return,
            Decision::Block(block) => {
                self.room.had(Instant::now());
                if let Some(why) = (new && block.unproven).then(|| self.hold(scope)).flatten() {
                    outcome.error = Some(why);
                    return self.reporter.outcome(Some(&verdict.common), outcome);
                }
                return self.order(verdict, Wish::Block(block), None, OutcomeResult::Applied);
            }
            Decision::Widened { both, asked } => {
                return self.order(verdict, Wish::Block(asked), Some(both), OutcomeResult::Applied);
            }
            Decision::Already { stands, asked } => {
                return self.order(verdict, Wish::Block(asked), Some(stands), OutcomeResult::Already);
            }
            Decision::Release => {
                return self.order(verdict, Wish::Release(Block::default()), None, OutcomeResult::Released);
            }
            Decision::Expired { until } => {
                outcome.result = OutcomeResult::Expired;
                outcome.until = Some(until);
            }
            // Without knowing who must not be blocked, nobody is.
            Decision::Refused(_) if unknown.is_some() => {
                outcome.result = OutcomeResult::Failed;
                outcome.error = unknown;
            }
            Decision::Full(why) => {
                self.room.turned_down(1, Instant::now());
                self.reporter.counters.no_room.add();
                self.reporter.say(&format!("refused: {why}"));
                outcome.error = Some(why);
            }
            Decision::Refused(why) => {
                self.reporter.counters.guarded.add();
                self.reporter.say(&format!("refused: {why}"));
                outcome.error = Some(why);
            }
        }
        self.reporter.outcome(Some(&verdict.common), outcome);
    }

    /// Hands a change to every worker.
    fn order(&mut self, verdict: &Verdict, wish: Wish, already: Option<Block>, well: OutcomeResult) {
        let (action, scope): (_, Prefix) = (verdict.body.action, verdict.body.scope);
        self.gone.forget(scope);
        for worker in &self.workers {
            // Blocks are bounded by the ledger; requests to unblock what is not blocked are bounded here.
            if worker.inbox.len() > self.most.saturating_mul(2) {
                let why = format!("{} is {} changes behind", worker.name, worker.inbox.len());
                let outcome = OutcomeBody {
                    error: Some(why),
                    ..body(action, scope, Some(worker.name), OutcomeResult::Refused)
                };
                self.reporter.outcome(Some(&verdict.common), outcome);
                continue;
            }
            // Anybody may have forged what convicts the source, and would end the connections of whomever he likes.
            if let Some(block) = wish.block().filter(|block| block.unproven && !worker.spares) {
                let name = worker.name;
                let why =
                    format!("no handshake proves {scope}, and {name} cannot leave alone what is established");
                let refused = body(action, scope, Some(name), OutcomeResult::Refused);
                self.reporter.outcome(Some(&verdict.common), OutcomeBody { error: Some(why), ..refused });
                if already.is_none() {
                    self.gone.note(name, vec![(scope, block.clone())]);
                }
                continue;
            }
            let ask = Ask { common: verdict.common.clone(), action, well, mark: self.mark };
            worker.inbox.put(scope, wish.clone(), already.clone(), ask);
        }
    }
}
