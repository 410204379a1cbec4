//! What systemd's journal has of outcomes: a line for each block, for its end, and for what failed, with the fields of the record.
//! `journal/` is another thing: what is wanted, on disk.

use std::time::Instant;

use psentry_records::{Action, Outcome, OutcomeResult, Record};
use psentry_stage::{Journal, Priority, journal_end};

use crate::block::Block;

/// The MESSAGE_IDs, as psentry-records(5) has them.
const BLOCKED: &str = "42701eaf945f43a1b2b0135b337db938";
const ENDED: &str = "ed8e9671b7284b859ea9dad75c04b5a8";
const FAILED: &str = "0d5a71e0a0d24816a97900426358bf7f";

/// At most so many lines in ten seconds: what journald takes of a service without more ado.
const MOST: u32 = 3000;

/// The journal; `None`: standard error is another thing.
pub(crate) fn open() -> Option<Journal> {
    Journal::open("psentry-block", MOST)
}

/// Why somebody is blocked: the rule and the reason, which the record of a block that is made has not.
pub(crate) fn because(block: &Block) -> String {
    let rule = block.rule.as_ref().map_or_else(String::new, |rule| format!(" by rule {rule}"));
    let reason = block.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    rule + &reason
}

/// The identity, the weight and the words of an outcome; `None`: it is not for the journal.
fn line(Outcome { body, .. }: &Outcome, because: &str) -> Option<(&'static str, Priority, String)> {
    let scope = if body.scope.is_host() { body.scope.addr().to_string() } else { body.scope.to_string() };
    let backend = body.backend.as_ref().map_or_else(String::new, |backend| format!(" by {backend}"));
    let why = body.error.as_ref().map_or_else(String::new, |why| format!(": {why}"));
    match (body.result, body.action) {
        (OutcomeResult::Applied, Action::Block) => {
            let end = journal_end(body.until);
            Some((BLOCKED, Priority::Notice, format!("{scope} is blocked{backend}{end}{because}")))
        }
        (OutcomeResult::Released, _) => {
            Some((ENDED, Priority::Info, format!("{scope} is released{backend}{why}")))
        }
        (OutcomeResult::Expired, _) => Some((
            ENDED,
            Priority::Info,
            format!("{scope} is no longer blocked{backend}, its time is over{why}"),
        )),
        (OutcomeResult::Failed, action) => {
            let what = if action == Action::Unblock { "released" } else { "blocked" };
            Some((FAILED, Priority::Error, format!("{scope} could not be {what}{backend}{why}")))
        }
        _ => None,
    }
}

/// Writes an outcome, if it is for the journal.
pub(crate) fn write(journal: &mut Journal, record: &Record, because: &str) {
    if let Record::Outcome(outcome) = record
        && let Some((id, priority, message)) = line(outcome, because)
    {
        journal.send(id, priority, &message, record, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use psentry_records::{Common, OutcomeBody};

    use super::*;

    #[test]
    fn blocks_their_ends_and_failures_are_for_the_journal() {
        let said = |action, scope: &str, result, change: fn(&mut OutcomeBody)| {
            let mut body = OutcomeBody::new(action, scope.parse().unwrap(), Some("nft"), result);
            change(&mut body);
            let outcome = Outcome { common: Common::at("2026-11-22T15:04:05Z".parse().unwrap()), body };
            line(&outcome, " by rule sequential: It touched 2 decoys.")
        };
        let (block, unblock) = (Action::Block, Action::Unblock);
        for (is, want) in [
            (
                said(block, "192.0.2.7", OutcomeResult::Applied, |body| {
                    body.until = "2026-11-22T16:04:05.5Z".parse().ok();
                }),
                Some((
                    BLOCKED,
                    Priority::Notice,
                    "192.0.2.7 is blocked by nft until 2026-11-22T16:04:05Z by rule sequential: It touched 2 decoys.",
                )),
            ),
            (
                said(block, "192.0.2.0/24", OutcomeResult::Applied, |_| {}),
                Some((
                    BLOCKED,
                    Priority::Notice,
                    "192.0.2.0/24 is blocked by nft, no end by rule sequential: It touched 2 decoys.",
                )),
            ),
            (
                said(unblock, "192.0.2.7", OutcomeResult::Released, |_| {}),
                Some((ENDED, Priority::Info, "192.0.2.7 is released by nft")),
            ),
            (
                said(block, "192.0.2.7", OutcomeResult::Expired, |_| {}),
                Some((ENDED, Priority::Info, "192.0.2.7 is no longer blocked by nft, its time is over")),
            ),
            (
                said(block, "192.0.2.7", OutcomeResult::Failed, |body| {
                    body.error = Some("no room".to_owned());
                }),
                Some((FAILED, Priority::Error, "192.0.2.7 could not be blocked by nft: no room")),
            ),
            (said(block, "192.0.2.7", OutcomeResult::Already, |_| {}), None),
            (said(block, "192.0.2.7", OutcomeResult::Refused, |_| {}), None),
        ] {
            assert_eq!(is, want.map(|(id, priority, text)| (id, priority, text.to_owned())));
        }
    }
}
