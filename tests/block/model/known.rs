//! The simple model: which scopes are blocked, and until when. It is what psentry-block promises, and knows nothing of how that is
//! kept: of two blocks for one scope both count, until both are over, and what is proven once stays so; scopes that overlap know
//! nothing of each other; what ends, ends; whatever others do to a backend changes nothing. All backends are to have the same,
//! but for one that cannot spare established connections: it has of it what is proven.

use std::collections::BTreeMap;
use std::time::Duration;

use psentry_records::{OutcomeResult, Prefix, Timestamp};

/// When a block ends; `None`: when somebody unblocks it.
pub type Until = Option<Timestamp>;

/// Backends know whole seconds, and a note is rounded up.
pub const SLACK: Duration = Duration::from_secs(2);

/// A block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Block {
    pub until: Until,
    /// No handshake proves it.
    pub unproven: bool,
}

/// What is there on a backend.
pub type Listed = BTreeMap<Prefix, Block>;

/// What a verdict asks for.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub scope: Prefix,
    /// `None`: to unblock it.
    pub block: Option<Block>,
    /// Whether the guard is to refuse it.
    pub refused: bool,
    /// When it was sent.
    pub sent: Timestamp,
    /// It is dated in the future: then it counts from when it is dealt with, and its end is later by as much.
    pub undated: bool,
}

/// Who is blocked.
#[derive(Clone, Default)]
pub struct Known {
    pub blocks: BTreeMap<Prefix, Block>,
    /// What ended lately: a backend may still have it, for it counts whole seconds.
    ended: BTreeMap<Prefix, Timestamp>,
}

impl Asked {
    /// With the end that was answered, where only whoever dealt with it knows when that was.
    pub fn ending(mut self, answered: Until) -> Self {
        if let (true, Some(Block { until: Some(until), .. }), Some(answered)) =
            (self.undated, &mut self.block, answered)
            && *until <= answered
            && answered.since(*until) <= Timestamp::now().since(self.sent)
        {
            *until = answered;
        }
        self
    }
}

impl Block {
    fn joined(self, other: Block) -> Block {
        let until = if outlasts(self.until, other.until) { self.until } else { other.until };
        Block { until, unproven: self.unproven && other.unproven }
    }

    /// Whether a backend takes it.
    pub fn fits(&self, backend: &str) -> bool {
        backend != "route" || !self.unproven
    }

    pub fn is_over(&self, at: Timestamp) -> bool {
        is_over(self.until, at)
    }
}

impl Known {
    /// What a backend is to have.
    pub fn on(&self, backend: &str) -> impl Iterator<Item = (Prefix, Block)> {
        self.blocks
            .iter()
            .filter(move |(_, block)| block.fits(backend))
            .map(|(scope, block)| (*scope, *block))
    }

    /// What a backend may answer at the moment `at`.
    pub fn answers(&self, asked: &Asked, at: Timestamp, backend: &str) -> Vec<OutcomeResult> {
        let known = self.blocks.get(&asked.scope).copied();
        let wanted = known.filter(|block| !block.is_over(at));
        let there = wanted.filter(|block| block.fits(backend));
        let Some(block) = asked.block else {
            // Or it has ended, and that is not told yet.
            let end = self.ended.get(&asked.scope).copied().max(known.and_then(|block| block.until));
            let lately = end.is_some_and(|end| end <= at && at.since(end) < SLACK);
            return match there {
                // What was listed since ends with a whole second, and has ended up to a second before.
                Some(block) if block.is_over(at.plus(SLACK)) => {
                    vec![OutcomeResult::Released, OutcomeResult::Already]
                }
                Some(_) => vec![OutcomeResult::Released],
                // Where no backend has it, all are answered for at once.
                None if lately || wanted.is_some() => vec![OutcomeResult::Already, OutcomeResult::Released],
                None => vec![OutcomeResult::Already],
            };
        };
        let both = wanted.map_or(block, |wanted| wanted.joined(block));
        match there {
            _ if block.is_over(at) => vec![OutcomeResult::Expired],
            _ if asked.refused || !both.fits(backend) => vec![OutcomeResult::Refused],
            Some(there) if there == both => vec![OutcomeResult::Already],
            // What was listed since ends with a whole second.
            Some(there) if there.unproven == both.unproven && alike(there.until, both.until) => {
                vec![OutcomeResult::Already, OutcomeResult::Applied]
            }
            _ => vec![OutcomeResult::Applied],
        }
    }

    /// What comes of a verdict that was dealt with before its end, which may have passed by now.
    pub fn take(&mut self, asked: &Asked) {
        let Asked { scope, block, refused, sent, .. } = *asked;
        match block {
            None if self.blocks.get(&scope).is_some_and(|block| block.is_over(sent)) => self.end(scope),
            None => _ = self.blocks.remove(&scope),
            Some(_) if refused => {}
            Some(block) => {
                let wanted = self.blocks.get(&scope).filter(|wanted| !wanted.is_over(sent));
                self.blocks.insert(scope, wanted.map_or(block, |wanted| wanted.joined(block)));
            }
        }
    }

    /// The next end within `span` of `now`.
    pub fn next_end(&self, now: Timestamp, span: Duration) -> Option<(Prefix, Timestamp)> {
        let ends = self.blocks.iter().filter_map(|(scope, block)| Some((*scope, block.until?)));
        ends.filter(|(_, until)| until.since(now) < span).min_by_key(|(_, until)| *until)
    }

    /// A block has ended.
    pub fn end(&mut self, scope: Prefix) {
        if let Some(Block { until: Some(until), .. }) = self.blocks.remove(&scope) {
            self.ended.insert(scope, until);
        }
    }

    /// Whether it ended within the last seconds.
    pub fn ended_lately(&self, scope: Prefix) -> bool {
        self.ended.get(&scope).is_some_and(|end| Timestamp::now().since(*end) < 2 * SLACK)
    }

    /// How `listed`, which was read from a backend between two moments, differs from what is to be there.
    pub fn differs(
        &self,
        listed: &Listed,
        backend: &str,
        before: Timestamp,
        after: Timestamp,
    ) -> Option<String> {
        let wanted: Listed = self.on(backend).collect();
        // What is about to end may not have become the other any more.
        let lasts = |block: &Block| !block.is_over(after.plus(SLACK / 2));
        for (scope, block) in listed {
            let ended = self.ended.get(scope).map(|end| Some(*end));
            let until = match wanted.get(scope) {
                Some(wanted) if lasts(wanted) && wanted.unproven != block.unproven => {
                    return Some(format!("{scope} is {block:?}, and is to be {wanted:?}"));
                }
                Some(wanted) => wanted.until,
                None => match ended {
                    Some(ended) => ended,
                    None => return Some(format!("{scope} is {block:?}, and nobody asked for it")),
                },
            };
            if until.is_some_and(|until| before.since(until) > SLACK) {
                return Some(format!("{scope} is there beyond its end, {until:?}"));
            }
            if !alike(until, block.until) {
                return Some(format!(
                    "{scope} is there until {:?}, and is to be until {until:?}",
                    block.until
                ));
            }
        }
        let (scope, block) =
            wanted.iter().find(|(scope, block)| lasts(block) && !listed.contains_key(scope))?;
        Some(format!("{scope} is to be {block:?}, and is not there"))
    }
}

pub fn is_over(until: Until, at: Timestamp) -> bool {
    until.is_some_and(|until| until <= at)
}

/// Whether two ends are the same, as far as backends can tell.
pub fn alike(a: Until, b: Until) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.since(b).max(b.since(a)) <= SLACK,
        (a, b) => a == b,
    }
}

fn outlasts(a: Until, b: Until) -> bool {
    match (a, b) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(a), Some(b)) => a >= b,
    }
}
