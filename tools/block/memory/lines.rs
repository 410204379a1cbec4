//! What a journal of blocks says: a verdict a line, as the stream has them, the last one for a scope being right. So
//! people can read it, and every verdict ends as verdicts do: its time counts from the time it was written, and a time
//! in the future counts as now. A clock that was set back makes no block longer than it was.

use std::collections::HashMap;
use std::io::{self, Read};
use std::time::Duration;

use psentry_records::{Action, Common, Prefix, Reader, Record, Timestamp, Verdict, VerdictBody};

use crate::backend::{Block, told};
use crate::ports::probed;

/// What a journal holds.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// The blocks that are wanted.
    pub(super) blocks: HashMap<Prefix, Block>,
    /// How many lines are no verdicts, and where the first of them is.
    pub(super) damaged: Option<(u64, u64)>,
}

impl Held {
    /// Reads a journal to its end; what is over at the moment `now` is not held.
    pub(super) fn read(source: impl Read, now: Timestamp) -> io::Result<Self> {
        Self::read_with(source, now, |_, _| {})
    }

    /// The lines of a journal that matter, in the order of their scopes.
    pub(super) fn compact(source: impl Read, now: Timestamp) -> io::Result<Vec<u8>> {
        let mut lines: HashMap<Prefix, Vec<u8>> = HashMap::new();
        let held = Self::read_with(source, now, |scope, line| {
            lines.insert(scope, line.to_vec());
        })?;
        let mut lines: Vec<_> =
            lines.into_iter().filter(|(scope, _)| held.blocks.contains_key(scope)).collect();
        lines.sort_unstable_by_key(|(scope, _)| *scope);
        let mut text = Vec::new();
        for (_, line) in lines {
            text.extend_from_slice(&line);
            text.push(b'\n');
        }
        Ok(text)
    }

    /// `each` is given the scope and the line of every verdict that decides.
    fn read_with(source: impl Read, now: Timestamp, mut each: impl FnMut(Prefix, &[u8])) -> io::Result<Self> {
        let mut held = Held::default();
        let mut reader = Reader::new(source);
        while let Some(item) = reader.next_item()? {
            match item.record {
                Ok(Record::Verdict(verdict)) => {
                    if verdict.body.action != Action::Watch {
                        each(verdict.body.scope, reader.raw());
                    }
                    held.take(verdict, now);
                }
                // Written by a later psentry, which is no damage.
                Ok(_) => {}
                Err(_) => {
                    let (count, first) = held.damaged.unwrap_or((0, item.line));
                    held.damaged = Some((count + 1, first));
                }
            }
        }
        Ok(held)
    }

    fn take(&mut self, verdict: Verdict, now: Timestamp) {
        let (scope, from) = (verdict.body.scope, verdict.common.timestamp.min(now));
        let block = Block {
            until: verdict.body.duration.map(|seconds| from.plus(Duration::from_secs(seconds))),
            rule: verdict.body.rule.as_deref().and_then(told),
            port: verdict.common.dest_port,
            proto: verdict.common.proto,
            since: Some(from),
            reason: verdict.body.reason.as_deref().and_then(told),
            offence: verdict.body.offence,
            ports: probed(verdict.body.ports.iter().copied()),
            unproven: verdict.body.handshake == Some(false),
        };
        match verdict.body.action {
            Action::Block if !block.is_over(now) => {
                self.blocks.insert(scope, block);
            }
            Action::Block | Action::Unblock => {
                self.blocks.remove(&scope);
            }
            Action::Watch => {}
        }
    }
}

/// The line that says how `scope` is wanted from the moment `now` on; `None`: let in.
pub(super) fn line(
    scope: Prefix,
    block: Option<&Block>,
    now: Timestamp,
    text: &mut Vec<u8>,
) -> io::Result<()> {
    let mut common = Common::at(now);
    let action = if block.is_some() { Action::Block } else { Action::Unblock };
    let mut body = VerdictBody::new(action, scope);
    if let Some(block) = block {
        common.dest_port = block.port;
        common.proto = block.proto;
        body.rule.clone_from(&block.rule);
        body.reason.clone_from(&block.reason);
        body.offence = block.offence;
        body.ports.clone_from(&block.ports);
        body.handshake = block.unproven.then_some(false);
        // From the verdict on, whose duration it was; of what was found nothing earlier is known than this moment.
        let since = block.since.unwrap_or(now);
        body.duration = block.seconds_left(since);
        // Durations are whole seconds, and ends are not.
        let seconds = body.duration.and_then(|seconds| i64::try_from(seconds).ok()?.checked_mul(1_000_000));
        let from = block.until.zip(seconds).and_then(|(until, seconds)| until.micros().checked_sub(seconds));
        common.timestamp = from.and_then(Timestamp::from_micros).unwrap_or(since);
    }
    let mut line = Vec::new();
    Record::Verdict(Verdict { common, body }).encode(&mut line)?;
    text.extend_from_slice(&line);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scope(last: u8) -> Prefix {
        format!("192.0.2.{last}").parse().unwrap()
    }

    fn at(second: u64) -> Timestamp {
        Timestamp::from_secs(1_000_000 + second).unwrap()
    }

    fn until(end: Timestamp) -> Block {
        let (rule, reason) = (Some("fan".to_owned()), Some("7 ports".to_owned()));
        let ports = vec![21, 23];
        Block {
            until: Some(end),
            rule,
            port: Some(23),
            since: Some(at(0)),
            reason,
            ports,
            ..Block::default()
        }
    }

    fn text(lines: &[(u8, Option<Block>)], now: Timestamp) -> Vec<u8> {
        let mut text = Vec::new();
        for (last, block) in lines {
            line(scope(*last), block.as_ref(), now, &mut text).unwrap();
        }
        text
    }

    fn ends(held: &Held) -> Vec<(Prefix, Option<Timestamp>)> {
        let mut ends: Vec<_> = held.blocks.iter().map(|(scope, block)| (*scope, block.until)).collect();
        ends.sort_unstable();
        ends
    }

    #[test]
    fn the_last_line_for_a_scope_is_right_and_what_is_over_is_not_held() {
        let lines = [
            (1, Some(until(at(60)))),
            (2, Some(until(at(60)))),
            (3, Some(until(at(10)))),
            (1, Some(until(at(30)))),
            (2, None),
            (4, Some(Block::default())),
        ];
        let journal = text(&lines, at(0));
        let held = Held::read(&*journal, at(20)).unwrap();
        assert_eq!(ends(&held), [(scope(1), Some(at(30))), (scope(4), None)]);
        assert_eq!(held.blocks[&scope(1)], until(at(30)));
        // What is left when it is written anew says the same, in fewer lines.
        let short = Held::compact(&*journal, at(20)).unwrap();
        assert_eq!(short.iter().filter(|byte| **byte == b'\n').count(), 2);
        let again = Held::read(&*short, at(20)).unwrap();
        assert_eq!(ends(&again), [(scope(1), Some(at(30))), (scope(4), None)]);
        assert!(again.damaged.is_none());
    }

    /// As psentry-block wrote them before it noted reasons.
    #[test]
    fn a_line_without_a_reason_is_read_and_its_moment_is_the_beginning() {
        let line = format!(
            "{{\"timestamp\":\"{}\",\"event_type\":\"verdict\",\
             \"verdict\":{{\"action\":\"block\",\"scope\":\"192.0.2.1\",\"duration\":60}}}}\n",
            at(5)
        );
        let held = Held::read(line.as_bytes(), at(20)).unwrap();
        let block = Block { until: Some(at(65)), since: Some(at(5)), ..Block::default() };
        assert_eq!(held.blocks[&scope(1)], block);
    }

    #[test]
    fn a_torn_line_costs_only_itself() {
        let mut journal = text(&[(1, Some(until(at(60)))), (2, Some(until(at(60))))], at(0));
        journal.truncate(journal.len() - 20);
        let held = Held::read(&*journal, at(1)).unwrap();
        assert_eq!((ends(&held).len(), held.damaged), (1, Some((1, 2))));
        journal.push(b'\n');
        journal.extend(text(&[(3, Some(until(at(60))))], at(0)));
        let held = Held::read(&*journal, at(1)).unwrap();
        assert_eq!((ends(&held).len(), held.damaged), (2, Some((1, 2))));
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_block_longer_than_it_was() {
        let block = Block { since: Some(at(100_000)), ..until(at(100_060)) };
        let journal = text(&[(1, Some(block))], at(100_000));
        let held = Held::read(&*journal, at(0)).unwrap();
        assert_eq!(ends(&held), [(scope(1), Some(at(60)))]);
    }

    proptest! {
        #[test]
        fn an_end_is_read_back_to_the_microsecond(micros in 1i64..10_000_000_000_000) {
            let end = Timestamp::from_micros(at(0).micros() + micros).unwrap();
            let held = Held::read(&*text(&[(1, Some(until(end)))], at(0)), at(0)).unwrap();
            prop_assert_eq!(ends(&held), [(scope(1), Some(end))]);
        }
    }
}
