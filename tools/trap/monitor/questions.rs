//! What people ask on the control socket: who is in quarantine, and to release somebody. Each question is one of a few lines that
//! whoever asks cannot make longer (`tools/control`), and is answered at once by what the kernel says now.

use psentry_control::{Question, Request, Server, json_line, note_line};
use psentry_records::{Action, Prefix, Timestamp};
use psentry_stage::counted;

use super::Monitor;
use std::time::Instant;

use crate::confirm::Confirm;
use crate::ports::Ranges;
use crate::protocol::{self, Report};
use crate::quarantine::Quarantined;

/// How many sources are named in an answer.
const MOST: usize = 10_000;

impl Monitor {
    /// Answers what was asked.
    pub(super) fn answer_questions(&mut self) {
        let requests = self.control.as_ref().map(Server::requests).unwrap_or_default();
        for (question, answer) in requests.into_iter().filter_map(Request::question) {
            match self.answer(&question) {
                Ok(lines) => answer.send(lines),
                Err(why) => answer.refuse(&why),
            }
        }
    }

    /// The lines of an answer, or why there is none.
    fn answer(&mut self, question: &Question) -> Result<Vec<u8>, String> {
        let now = Timestamp::now();
        let failed = |error: psentry_linux::Error| error.to_string();
        let released = |scopes: &[Prefix]| few(scopes, |scope| protocol::released(*scope, now));
        match question {
            Question::List => {
                let mut lines = listed(&self.quarantine.list(None).map_err(failed)?, now);
                lines.extend(self.full_quarantine.trouble().iter().flat_map(|full| note_line(full)));
                Ok(lines)
            }
            Question::Why { addr } => {
                let mut lines = listed(&self.quarantine.list(Some(*addr)).map_err(failed)?, now);
                let unseen = self.unseen_by(*addr).map_err(failed)?;
                lines.extend(unseen.iter().flat_map(|sentence| note_line(sentence)));
                Ok(lines)
            }
            Question::Status => Ok(json_line(&self.report().map_err(failed)?)),
            Question::Verdict(verdict) if verdict.body.action == Action::Unblock => {
                let scopes = self.quarantine.release(&[verdict.body.scope]).map_err(failed)?;
                let sources = counted(scopes.len() as u64, "source", "sources");
                match &*scopes {
                    [] => {}
                    [scope] => self.complaints.say(&format!("a command released {scope} from quarantine")),
                    _ => self.complaints.say(&format!(
                        "a command released {sources} in {} from quarantine",
                        verdict.body.scope
                    )),
                }
                Ok(released(&scopes))
            }
            Question::Verdict(_) => Err("psentry-trap holds no blocks; psentry-block does".to_owned()),
            Question::Confirm => self.confirm(),
            Question::Flush => {
                let scopes: Vec<Prefix> = self.quarantine.list(None).map_err(failed)?.into_keys().collect();
                self.release_all().map_err(|error| error.to_string())?;
                self.complaints.say("a command released everybody from quarantine");
                Ok(released(&scopes))
            }
        }
    }

    fn report(&mut self) -> Result<Report, psentry_linux::Error> {
        let is_whole = self.read_counters() && self.repair_at.is_none();
        let drifted = (!is_whole).then_some("others changed the rules, which are about to be loaded again");
        let full = self.full_quarantine.trouble();
        let unconfirmed = self.confirm.as_ref().and_then(Confirm::expired);
        let wrong: Vec<String> = self.files.wrong().into_iter().chain(unconfirmed).collect();
        let wrong = wrong.join("; ");
        let ports = |ports: &Ranges| (!ports.is_empty()).then(|| ports.to_string());
        let error = drifted.or(full).or((!wrong.is_empty()).then_some(&*wrong));
        let report = Report {
            quarantined: if full.is_none() { Some(self.quarantine.list(None)?.len()) } else { None },
            observes: self.settings.observe,
            hidden: ports(&self.settings.hide),
            veiled: ports(&self.settings.veil),
            vouched: self.facts.vouched.len(),
            confirm_left: self
                .confirm
                .as_ref()
                .and_then(|confirm| Some(confirm.left(Instant::now())?.as_secs())),
            panic: self.panic.holds().cloned(),
            error: error.map(str::to_owned),
            counters: self.named_counters().map(|(name, value)| (name.to_owned(), value)).collect(),
        };
        Ok(report)
    }
}

/// A line for each that is in quarantine.
fn listed(all: &Quarantined, now: Timestamp) -> Vec<u8> {
    few(all, |(scope, left)| protocol::listed(*scope, *left, now))
}

/// A line for each, but of a flood only for so many as fit into memory and anybody reads; and how many more there are.
fn few<T>(
    all: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
    line: impl Fn(T) -> Vec<u8>,
) -> Vec<u8> {
    let all = all.into_iter();
    let more = all.len().saturating_sub(MOST) as u64;
    let mut lines: Vec<u8> = all.take(MOST).flat_map(line).collect();
    if more > 0 {
        lines
            .extend(note_line(&format!("{} not named", counted(more, "more source is", "more sources are"))));
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn of_a_flood_some_are_named() {
        let now = Timestamp::now();
        let source = |n: u32| (Prefix::host(std::net::Ipv4Addr::from(n).into()), Duration::MAX);
        for (count, note) in
            [(0, None), (10_000, None), (10_002, Some("{\"note\":\"2 more sources are not named\"}"))]
        {
            let lines = String::from_utf8(listed(&(0..count).map(source).collect(), now)).unwrap();
            let named = lines.lines().filter(|line| line.contains("\"outcome\"")).count();
            assert_eq!((named, lines.lines().nth(MOST)), (MOST.min(count as usize), note));
        }
    }
}
