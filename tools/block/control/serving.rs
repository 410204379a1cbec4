//! The main loop's part of the control socket: a question is answered by the one thread that keeps the ledger, in order
//! with verdicts. What a backend has to say comes from its own thread; nobody is waited for.

use std::time::Instant;

use psentry_records::{Outcome, OutcomeBody, OutcomeResult, Prefix, Record, Timestamp, Verdict};

use super::words::{Answer, Answers, Letting, Prospect, Question, Request, line, trouble};
use crate::inbox::Tell;
use crate::report::body;
use crate::run::brake::Holding;
use crate::run::room::{Full, Held};
use crate::run::{Hired, Stage};

/// In whose name the main loop answers beside the backends.
const MAIN: &str = "psentry-block";

impl Stage {
    /// Answers what is asked on the control socket, whose bell may have been `rung`.
    pub(crate) fn attend(&mut self, rung: bool) {
        let requests = self.control.as_ref().map(|control| control.requests(rung)).unwrap_or_default();
        for Request { question, answers } in requests {
            match question {
                Question::Verdict(_) if self.over => {
                    let why = "the input has ended: psentry-block only ends its blocks, and makes no more";
                    let _ = answers.send(Answer::Lines(None, trouble(why)));
                }
                Question::Verdict(verdict) => {
                    let _ = answers.send(Answer::Expect(self.workers.iter().map(|w| w.name).collect()));
                    self.reporter.tell_of(&verdict, answers);
                    self.verdict(&verdict);
                }
                Question::Status => {
                    let held = self.held();
                    self.have_told(Tell::Status(held), &[], None, &answers);
                }
                Question::Why(scope) => {
                    let prospect = self.prospect(scope);
                    self.have_told(Tell::Why(scope), &[], Some(line(&prospect)), &answers);
                }
                Question::TakeBack(backends) => self.have_told(Tell::TakeBack, &backends, None, &answers),
                Question::LetIn(backends, wait) => self.have_let_in(&backends, wait, &answers),
            }
        }
    }

    /// Has every backend tell it that still works, of `those`, if any are named. What the main loop has to say itself comes
    /// before that.
    fn have_told(&self, what: Tell, those: &[String], first: Option<Vec<u8>>, answers: &Answers) {
        let working = self.working(those);
        let main = first.iter().map(|_| MAIN);
        let names = main.chain(working.iter().map(|worker| worker.name)).collect();
        let _ = answers.send(Answer::Expect(names));
        if let Some(first) = first {
            let _ = answers.send(Answer::Lines(Some(MAIN.to_owned()), first));
        }
        for worker in working {
            worker.inbox.ask(what, answers.clone());
        }
    }

    /// Has backends let everybody in, and says at once which do.
    fn have_let_in(&self, those: &[String], wait: bool, answers: &Answers) {
        let letting_in = self.working(those).iter().map(|worker| worker.name.to_owned()).collect();
        let first = line(&Letting { letting_in });
        if wait {
            return self.have_told(Tell::LetIn, those, Some(first), answers);
        }
        let _ = answers.send(Answer::Lines(None, first));
        self.have_told(Tell::LetIn, those, None, answers);
    }

    fn working(&self, those: &[String]) -> Vec<&Hired> {
        let meant = |worker: &&Hired| those.is_empty() || those.iter().any(|name| name == worker.name);
        self.workers.iter().filter(meant).filter(|worker| !worker.thread.is_finished()).collect()
    }

    /// What holds back new blocks.
    fn held(&mut self) -> Held {
        let now = Instant::now();
        self.ledger.expire(Timestamp::now());
        self.make_room();
        Held {
            brake: self.brake.as_ref().and_then(|brake| brake.holding(now)),
            full: self.room.full(self.ledger.len(), self.most, now),
        }
    }

    /// What would become of a verdict that blocks `scope` now.
    fn prospect(&mut self, scope: Prefix) -> Prospect {
        let keeps = |why: String| Prospect { may_block: false, why: Some(why) };
        if let Some(order) = self.panic.holds() {
            return keeps(order.sentence());
        }
        let refusal = self.guard.refusal(scope);
        match refusal.and_then(|why| why.map_or_else(|| self.guard.not_yet(scope), |why| Ok(Some(why)))) {
            Ok(None) => {}
            Ok(Some(why)) => return keeps(why),
            Err(error) => return keeps(error.to_string()),
        }
        let (now, held) = (Instant::now(), self.held());
        if self.ledger.len() >= self.most {
            return keeps(format!("it would be one block more than --max-blocks {} allows", self.most));
        }
        // It holds only what is not proven, and whom it turned down stays in until the next verdict.
        let at_its_limit = self.brake.as_ref().is_some_and(|brake| brake.would_hold(scope, now));
        let limit = || "the brake has let through all unproven blocks that it does in a minute".to_owned();
        let brake = held.brake.map(Holding::sentence).or_else(|| at_its_limit.then(limit));
        Prospect { may_block: true, why: brake.or(held.full.map(Full::sentence)) }
    }
}

/// That nobody knows yet what became of a verdict.
pub(super) fn failed(verdict: &Verdict, backend: &str, why: String) -> Vec<u8> {
    let (action, scope) = (verdict.body.action, verdict.body.scope);
    let body = OutcomeBody { error: Some(why), ..body(action, scope, Some(backend), OutcomeResult::Failed) };
    let mut text = Vec::new();
    // It can always be encoded: texts that are too long are shortened.
    let _ = Record::Outcome(Outcome { common: verdict.common.clone(), body }).encode(&mut text);
    text
}
