//! The main loop's part of the control socket: a question is answered by the one thread that keeps the ledger, in order
//! with verdicts. What a backend has to say comes from its own thread; nobody is waited for.

use std::net::IpAddr;

use psentry_records::{Action, Common, Outcome, OutcomeBody, OutcomeResult, Prefix, Record, Verdict};

use super::words::{Answer, Answers, Question, Request};
use crate::backend::Block;
use crate::report::body;
use crate::run::Stage;

impl Stage {
    /// Answers what is asked on the control socket, whose bell may have been `rung`.
    pub(crate) fn attend(&mut self, rung: bool) {
        let requests = self.control.as_ref().map(|control| control.requests(rung)).unwrap_or_default();
        for Request { question, answers } in requests {
            match question {
                Question::Verdict(verdict) => {
                    let _ = answers.send(self.all());
                    self.reporter.tell_of(&verdict, answers);
                    self.verdict(&verdict);
                }
                Question::Status => {
                    let _ = answers.send(self.all());
                    for worker in &self.workers {
                        worker.inbox.ask(answers.clone());
                    }
                }
                Question::Why(addr) => self.tell_why(addr, &answers),
            }
        }
    }

    /// Every backend answers.
    fn all(&self) -> Answer {
        Answer::Expect(self.workers.iter().map(|worker| worker.name).collect())
    }

    fn tell_why(&self, addr: IpAddr, answers: &Answers) {
        for (scope, block) in self.ledger.around(addr) {
            let _ = answers.send(Answer::Line(Some(String::new()), wanted(scope, block)));
        }
        let _ = answers.send(Answer::Expect(Vec::new()));
    }
}

/// A block that is wanted, as a line.
fn wanted(scope: Prefix, block: &Block) -> Vec<u8> {
    let body = OutcomeBody {
        until: block.until,
        rule: block.rule.clone(),
        reason: block.reason.clone(),
        since: block.since,
        ..body(Action::Block, scope, None, OutcomeResult::Already)
    };
    line(Common::at(psentry_records::Timestamp::now()), body)
}

/// That nobody knows yet what became of a verdict.
pub(super) fn failed(verdict: &Verdict, backend: &str, why: String) -> Vec<u8> {
    let (action, scope) = (verdict.body.action, verdict.body.scope);
    let body = OutcomeBody { error: Some(why), ..body(action, scope, Some(backend), OutcomeResult::Failed) };
    line(verdict.common.clone(), body)
}

fn line(common: Common, body: OutcomeBody) -> Vec<u8> {
    let mut text = Vec::new();
    // It can always be encoded: texts that are too long are shortened.
    let _ = Record::Outcome(Outcome { common, body }).encode(&mut text);
    text
}
