//! The main loop's part of the control socket: a question is answered by the one thread that keeps the ledger, in order
//! with verdicts. What a backend has to say comes from its own thread; nobody is waited for.

use std::time::Instant;

use psentry_records::{Outcome, OutcomeBody, OutcomeResult, Record, Verdict};

use super::words::{Answer, Answers, Question, Request, trouble};
use crate::inbox::Tell;
use crate::report::body;
use crate::run::{Hired, Stage};

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
                    let brake = self.brake.as_ref().and_then(|brake| brake.holding(Instant::now()));
                    self.have_told(Tell::Status(brake), &[], &answers);
                }
                Question::Why(addr) => self.have_told(Tell::Why(addr), &[], &answers),
                Question::TakeBack(backends) => self.have_told(Tell::TakeBack, &backends, &answers),
            }
        }
    }

    /// Has every backend tell it that still works, of `those`, if any are named.
    fn have_told(&self, what: Tell, those: &[String], answers: &Answers) {
        let meant = |w: &&Hired| those.is_empty() || those.iter().any(|name| name == w.name);
        let working: Vec<&Hired> =
            self.workers.iter().filter(meant).filter(|w| !w.thread.is_finished()).collect();
        let _ = answers.send(Answer::Expect(working.iter().map(|worker| worker.name).collect()));
        for worker in working {
            worker.inbox.ask(what, answers.clone());
        }
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
