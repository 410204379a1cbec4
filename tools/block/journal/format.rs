//! What the journal says, a record a line, as the stream has them. The last one for a scope counts.
//!
//! A **verdict** says that a scope is wanted, or not any more. An **outcome** of the backend exec says what its command has done,
//! for nobody can ask it: `failed` before the command is run, `applied` once it ended well, `released` when there is nothing
//! any more. So people can read it, and a line of a later psentry is passed over.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use psentry_records::{
    Action, Common, Outcome, OutcomeBody, OutcomeResult, Prefix, Reader, Record, Timestamp, Verdict,
    VerdictBody,
};
use psentry_stage::clean;

use super::file::LONGEST;
use crate::block::{Block, probed};
use crate::error::Error;
use crate::outcomes::common_of;

/// What a journal holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorded {
    /// Whether there was one that says what is wanted.
    pub(crate) known: bool,
    /// The blocks that are wanted. Their ends may be over.
    pub(crate) blocks: HashMap<Prefix, Block>,
    /// What commands have blocked.
    pub(crate) by_command: HashMap<Prefix, CommandState>,
    /// The newest moment in it.
    pub(crate) newest: Option<Timestamp>,
    /// Lines that are no records: in which file, how many, and where the first of them is.
    pub(crate) damaged: Vec<(PathBuf, u64, u64)>,
}

/// What a command has blocked.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct CommandState {
    /// The block that it confirmed.
    pub(crate) confirmed: Option<Block>,
    /// The block for which it was run since then, and nobody knows what came of it.
    pub(crate) unsure: Option<Block>,
}

/// What is written down.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum JournalEntry {
    /// A scope is wanted like this.
    Wanted(Prefix, Block),
    /// It is not wanted any more.
    Released(Prefix),
    /// A command for this block is about to be run.
    Unsure(Prefix, Block),
    /// It ended well.
    Done(Prefix, Block),
    /// What commands had blocked is unblocked.
    Undone(Prefix),
}

impl JournalEntry {
    /// As a line, written at the moment `now`.
    pub(crate) fn write(&self, now: Timestamp, text: &mut Vec<u8>) {
        let mut line = Vec::new();
        // It can always be encoded: texts that are too long are shortened.
        if self.record(now).encode(&mut line).is_ok() {
            text.extend_from_slice(&line);
        }
    }

    fn record(&self, now: Timestamp) -> Record {
        let exec = |scope, block: Option<&Block>, result| {
            let common = block.map_or_else(|| Common::at(now), |block| common_of(block, now));
            let mut body = OutcomeBody::new(Action::Block, scope, Some("exec"), result);
            body.until = block.and_then(|block| block.until);
            body.handshake = block.is_some_and(|block| block.unproven).then_some(false);
            body.ports = block.map_or_else(Vec::new, |block| block.ports.clone());
            Record::Outcome(Outcome { common, body })
        };
        match self {
            JournalEntry::Wanted(scope, block) => wanted(*scope, block, now),
            JournalEntry::Released(scope) => {
                let body = VerdictBody::new(Action::Unblock, *scope);
                Record::Verdict(Verdict { common: Common::at(now), body })
            }
            JournalEntry::Unsure(scope, block) => exec(*scope, Some(block), OutcomeResult::Failed),
            JournalEntry::Done(scope, block) => exec(*scope, Some(block), OutcomeResult::Applied),
            JournalEntry::Undone(scope) => exec(*scope, None, OutcomeResult::Released),
        }
    }
}

fn wanted(scope: Prefix, block: &Block, now: Timestamp) -> Record {
    // From the verdict on, whose duration it was; of what was found nothing earlier is known than this moment.
    let since = block.since.unwrap_or(now);
    let mut body = VerdictBody::new(Action::Block, scope);
    body.rule.clone_from(&block.rule);
    body.reason.clone_from(&block.reason);
    body.offence = block.offence;
    body.ports.clone_from(&block.ports);
    body.handshake = block.unproven.then_some(false);
    body.duration = block.seconds_left(since);
    // Durations are whole seconds, and ends are not.
    let micros = body.duration.and_then(|seconds| i64::try_from(seconds).ok()?.checked_mul(1_000_000));
    let from = block.until.zip(micros).and_then(|(until, micros)| until.micros().checked_sub(micros));
    let from = from.and_then(Timestamp::from_micros).unwrap_or(since);
    Record::Verdict(Verdict { common: common_of(block, from), body })
}

impl Recorded {
    /// Reads a file to its end, on top of what is known already.
    ///
    /// # Errors
    /// What read(2) says.
    pub(crate) fn add(&mut self, path: &Path, source: impl Read) -> Result<(), Error> {
        let mut damaged = None;
        // It may grow while it is read.
        let mut reader = Reader::new(source.take(LONGEST));
        while let Some(item) = reader.next_item().map_err(Error::file(path, "read it"))? {
            match item.record {
                Ok(Record::Verdict(verdict)) => {
                    self.newest = self.newest.max(Some(verdict.common.timestamp));
                    self.take_verdict(verdict);
                }
                Ok(Record::Outcome(outcome)) if outcome.body.backend.as_deref() == Some("exec") => {
                    self.newest = self.newest.max(Some(outcome.common.timestamp));
                    self.take_outcome(&outcome);
                }
                Ok(_) => {}
                Err(_) => {
                    let (count, first) = damaged.unwrap_or((0, item.line));
                    damaged = Some((count + 1, first));
                }
            }
        }
        self.damaged.extend(damaged.map(|(count, first)| (path.to_owned(), count, first)));
        Ok(())
    }

    /// All of it as lines, written at the moment `now`.
    pub(crate) fn text(self, now: Timestamp) -> Vec<u8> {
        let mut text = Vec::new();
        let mut write = |entry: JournalEntry| entry.write(now, &mut text);
        self.blocks.into_iter().for_each(|(scope, block)| write(JournalEntry::Wanted(scope, block)));
        for (scope, CommandState { confirmed, unsure }) in self.by_command {
            // What a command has done is before what it may have done since.
            confirmed.into_iter().for_each(|block| write(JournalEntry::Done(scope, block)));
            unsure.into_iter().for_each(|block| write(JournalEntry::Unsure(scope, block)));
        }
        text
    }

    fn take_verdict(&mut self, Verdict { common, body }: Verdict) {
        if body.action != Action::Block {
            if body.action == Action::Unblock {
                self.blocks.remove(&body.scope);
            }
            return;
        }
        let from = common.timestamp;
        let block = Block {
            until: body.duration.map(|seconds| from.plus(Duration::from_secs(seconds))),
            rule: body.rule.as_deref().and_then(clean),
            addr: common.src_ip,
            port: common.dest_port,
            proto: common.proto,
            since: Some(from),
            reason: body.reason.as_deref().and_then(clean),
            offence: body.offence,
            ports: probed(body.ports.iter().copied()),
            unproven: body.handshake == Some(false),
        };
        self.blocks.insert(body.scope, block);
    }

    /// Takes over what a command has done.
    fn take_outcome(&mut self, Outcome { common, body }: &Outcome) {
        let block = Block {
            until: body.until,
            addr: common.src_ip,
            port: common.dest_port,
            proto: common.proto,
            unproven: body.handshake == Some(false),
            ports: probed(body.ports.iter().copied()),
            ..Block::default()
        };
        let by_command = self.by_command.entry(body.scope).or_default();
        match body.result {
            OutcomeResult::Applied => *by_command = CommandState { confirmed: Some(block), unsure: None },
            OutcomeResult::Failed => by_command.unsure = Some(block),
            _ => _ = self.by_command.remove(&body.scope),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(seconds).unwrap()
    }

    fn block(until: u64) -> Block {
        let since = Some(at(1_000_000));
        Block { until: Some(at(until)), since, rule: Some("fan".into()), port: Some(23), ..Block::default() }
    }

    fn read(text: &[u8]) -> Recorded {
        let mut recorded = Recorded::default();
        recorded.add(Path::new("journal"), text).unwrap();
        recorded
    }

    fn written(entries: &[JournalEntry]) -> Vec<u8> {
        let mut text = Vec::new();
        entries.iter().for_each(|entry| entry.write(at(1_000_010), &mut text));
        text
    }

    #[test]
    fn what_is_written_is_read_and_the_last_line_counts() {
        let (a, b) = ("192.0.2.7".parse().unwrap(), "2001:db8::/64".parse().unwrap());
        let fraction = Block { until: Some(at(1_003_600).plus(Duration::from_micros(7))), ..block(0) };
        let text = written(&[
            JournalEntry::Wanted(a, block(1_000_060)),
            JournalEntry::Wanted(b, fraction.clone()),
            JournalEntry::Wanted(a, block(1_000_120)),
            JournalEntry::Unsure(b, block(1_000_060)),
            JournalEntry::Done(b, block(1_000_060)),
            JournalEntry::Unsure(b, block(1_000_120)),
        ]);
        let recorded = read(&text);
        assert_eq!(recorded.blocks[&a].until, Some(at(1_000_120)));
        assert_eq!(recorded.blocks[&b].until, fraction.until);
        assert_eq!(recorded.newest, Some(at(1_000_010)));
        let CommandState { confirmed, unsure } = &recorded.by_command[&b];
        let until = |block: &Option<Block>| block.as_ref().unwrap().until;
        assert_eq!((until(confirmed), until(unsure)), (Some(at(1_000_060)), Some(at(1_000_120))));
        let more = [&*text, &written(&[JournalEntry::Released(a), JournalEntry::Undone(b)])].concat();
        let recorded = read(&more);
        assert_eq!((recorded.blocks.len(), recorded.by_command.len()), (1, 0));
    }

    /// Or its command would be run once more at each start.
    #[test]
    fn what_a_command_has_done_is_remembered_with_its_ports() {
        let scope = "192.0.2.7".parse().unwrap();
        let block = Block { ports: vec![22, 443], unproven: true, ..block(1_000_060) };
        let recorded = read(&written(&[JournalEntry::Done(scope, block.clone())]));
        let confirmed = recorded.by_command[&scope].confirmed.as_ref().unwrap();
        assert!(confirmed.entry(scope).is(&block), "{confirmed:?}");
    }

    #[test]
    fn what_was_read_is_written_in_as_few_lines_as_can_be_and_damage_is_counted() {
        let scopes: Vec<Prefix> = (1..7).map(|n| format!("192.0.2.{n}").parse().unwrap()).collect();
        let mut text = written(&[
            JournalEntry::Wanted(scopes[0], block(1_000_060)),
            JournalEntry::Wanted(scopes[0], block(1_000_090)),
            JournalEntry::Wanted(scopes[2], block(1_000_060)),
            JournalEntry::Done(scopes[3], block(1_000_060)),
            // Of a command that fails again and again the last line is enough.
            JournalEntry::Unsure(scopes[3], block(1_000_080)),
            JournalEntry::Unsure(scopes[3], block(1_000_090)),
            JournalEntry::Done(scopes[4], block(1_000_060)),
            JournalEntry::Unsure(scopes[5], block(1_000_070)),
            JournalEntry::Done(scopes[5], block(1_000_080)),
        ]);
        text.extend(b"{\"event_type\":\"later\"}\nno record\nnor this\n");
        text.extend(written(&[JournalEntry::Released(scopes[2]), JournalEntry::Undone(scopes[4])]));
        let before = read(&text);
        // A record of a later psentry is no damage.
        assert_eq!(before.damaged, [("journal".into(), 2, 11)]);
        let short = before.clone().text(at(1_000_030));
        let after = read(&short);
        assert_eq!((&after.blocks, &after.by_command), (&before.blocks, &before.by_command));
        assert_eq!(after.blocks.keys().collect::<Vec<_>>(), [&scopes[0]]);
        assert_eq!((after.damaged.len(), short.iter().filter(|byte| **byte == b'\n').count()), (0, 4));
    }
}
