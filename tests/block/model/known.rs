//! The simple model of one backend: which scopes are shut out, and until when. It knows the sentences of the manual and
//! nothing of how they are kept: of two blocks for one scope the longer one stands, scopes that overlap know nothing of each
//! other, and what ends, ends. What other backends hold is nothing to it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use psentry_records::{OutcomeResult, Prefix, Timestamp};

/// When a block ends; `None`: when somebody ends it.
pub type Until = Option<Timestamp>;

/// Backends know whole seconds, and a note is rounded up.
pub const SLACK: Duration = Duration::from_secs(2);

/// What a verdict asks for.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub scope: Prefix,
    /// `None`: to let it in.
    pub block: Option<Until>,
    /// Whether the guard is to refuse it.
    pub refused: bool,
    /// Whether no handshake proves it.
    pub unproven: bool,
    /// When it was sent, if it is dated in the future: then it counts from when it is dealt with, and its end is later by
    /// as much.
    pub undated: Option<Timestamp>,
}

impl Asked {
    /// With the end that was answered, where only whoever dealt with it knows when that was.
    pub fn ending(mut self, told: Until) -> Self {
        if let (Some(sent), Some(Some(until)), Some(told)) = (self.undated, self.block, told)
            && until <= told
            && told.since(until) <= Timestamp::now().since(sent)
        {
            self.block = Some(Some(told));
        }
        self
    }
}

/// How a block is listed: until when, and whether it is said not to be proven.
pub type Listed = BTreeMap<Prefix, (Until, bool)>;

/// Who is shut out.
#[derive(Clone, Default)]
pub struct Known {
    pub blocks: BTreeMap<Prefix, Until>,
    /// Which of these, and of those that ended lately, no handshake proves.
    pub unproven: BTreeSet<Prefix>,
    /// It cannot leave alone what is established, and refuses what is not proven.
    cannot_spare: bool,
    /// What ended lately: whoever lets that in may still find it.
    ended: BTreeMap<Prefix, Timestamp>,
}

impl Known {
    /// Of a backend on which nobody is shut out.
    pub fn of(backend: &str) -> Self {
        Known { cannot_spare: backend == "route", ..Known::default() }
    }

    /// What may be answered at the moment `at`.
    pub fn answers(&self, asked: &Asked, at: Timestamp) -> Vec<OutcomeResult> {
        let stands = self.blocks.get(&asked.scope).filter(|until| !is_over(**until, at));
        let Some(until) = asked.block else {
            // Or it has ended, and that is not told yet.
            let over = self.blocks.get(&asked.scope).copied().flatten();
            let ended = self.ended.get(&asked.scope).copied().max(over);
            let lately = ended.is_some_and(|end| at.since(end) < SLACK);
            return match stands {
                Some(_) => vec![OutcomeResult::Released],
                None if lately => vec![OutcomeResult::Already, OutcomeResult::Released],
                None => vec![OutcomeResult::Already],
            };
        };
        match stands {
            _ if is_over(until, at) => vec![OutcomeResult::Expired],
            _ if asked.refused || self.cannot_spare && asked.unproven => vec![OutcomeResult::Refused],
            Some(_) if self.is_unproven(asked.scope) && !asked.unproven => vec![OutcomeResult::Applied],
            Some(stands) if alike(*stands, until) => vec![OutcomeResult::Already, OutcomeResult::Applied],
            Some(stands) if outlasts(*stands, until) => vec![OutcomeResult::Already],
            _ => vec![OutcomeResult::Applied],
        }
    }

    /// What comes of a verdict that was dealt with before its end, which may have passed by now.
    pub fn take(&mut self, asked: &Asked) {
        match asked.block {
            None => self.remove(asked.scope),
            Some(_) if asked.refused || self.cannot_spare && asked.unproven => {}
            Some(until) => {
                // What was proven once stays so.
                if asked.unproven && !self.blocks.contains_key(&asked.scope) {
                    self.unproven.insert(asked.scope);
                } else if !asked.unproven {
                    self.unproven.remove(&asked.scope);
                }
                let stands = self.blocks.entry(asked.scope).or_insert(until);
                if !outlasts(*stands, until) {
                    *stands = until;
                }
            }
        }
    }

    /// Whether no handshake proves why it is shut out, or was until lately.
    pub fn is_unproven(&self, scope: Prefix) -> bool {
        self.unproven.contains(&scope)
    }

    /// The next end within `span` of `now`.
    pub fn next_end(&self, now: Timestamp, span: Duration) -> Option<(Prefix, Timestamp)> {
        let ends = self.blocks.iter().filter_map(|(scope, until)| Some((*scope, (*until)?)));
        ends.filter(|(_, until)| until.since(now) < span).min_by_key(|(_, until)| *until)
    }

    /// What ended within the last seconds.
    pub fn ended_lately(&self) -> impl Iterator<Item = Prefix> {
        let now = Timestamp::now();
        self.ended.iter().filter(move |(_, end)| now.since(**end) < 2 * SLACK).map(|(scope, _)| *scope)
    }

    /// Whether this is what ended lately, and only stands until its end rounded up.
    pub fn has_ended(&self, scope: Prefix, until: Until) -> bool {
        self.ended.get(&scope).is_some_and(|end| alike(Some(*end), until))
    }

    /// It is not shut out any more.
    pub fn remove(&mut self, scope: Prefix) {
        self.blocks.remove(&scope);
        self.unproven.remove(&scope);
    }

    /// A block has ended.
    pub fn end(&mut self, scope: Prefix) {
        // It may stand for a moment more, where it stood.
        if let Some(Some(until)) = self.blocks.remove(&scope) {
            self.ended.insert(scope, until);
        }
    }

    /// How `listed`, which was read between two moments, differs from what is to stand.
    pub fn differs(&self, listed: &Listed, before: Timestamp, after: Timestamp) -> Option<String> {
        for (scope, (until, unproven)) in listed {
            // What is about to end may not have become the other any more.
            let lasts = self.blocks.get(scope).is_some_and(|until| !is_over(*until, after.plus(SLACK / 2)));
            if lasts && *unproven != self.is_unproven(*scope) {
                return Some(format!("{scope} stands as {}proven", if *unproven { "un" } else { "" }));
            }
            let known =
                self.blocks.get(scope).copied().or_else(|| self.ended.get(scope).map(|end| Some(*end)));
            match known {
                None => return Some(format!("{scope} stands, and nobody asked for it")),
                Some(Some(end)) if before.since(end) > SLACK => {
                    return Some(format!("{scope} stands beyond its end, {end}"));
                }
                Some(known) if !alike(known, *until) => {
                    return Some(format!("{scope} stands until {until:?}, and is to stand until {known:?}"));
                }
                Some(_) => {}
            }
        }
        let soon = after.plus(SLACK / 2);
        let missing =
            |(scope, until): &(&Prefix, &Until)| !is_over(**until, soon) && !listed.contains_key(*scope);
        let (scope, until) = self.blocks.iter().find(missing)?;
        Some(format!("{scope} is to stand until {until:?}, and does not"))
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
