//! What failed is tried again: after a second, and after twice as long each time, up to a minute. Pure: the moment is always
//! given.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use psentry_records::{Prefix, Timestamp};

/// How long after a first failure it is tried again; the wait doubles from there.
pub(crate) const FIRST_WAIT: Duration = Duration::from_secs(1);
/// How long it waits at most: a minute after the trouble is over at the latest, the block is there.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Why something about a scope is not done yet.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    pub(crate) why: String,
    retry: Timestamp,
    wait: Duration,
    /// It must not be done yet: somebody is logged in there.
    pub(crate) held: bool,
}

/// What of one backend is to be tried again.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: HashMap<Prefix, Failure>,
    due: BTreeSet<(Timestamp, Prefix)>,
    held: usize,
    /// The latest failure.
    latest: Option<(Timestamp, String)>,
}

impl Backoff {
    /// It failed, or must not be done yet and is `held`. Whether that is news: not when the same failed before.
    pub(crate) fn failed(&mut self, scope: Prefix, why: &str, held: bool, now: Timestamp) -> bool {
        let before = self.remove(scope);
        let wait = match &before {
            // Whoever is logged in may leave at any moment.
            Some(before) if !held && !before.held => (before.wait * 2).min(LONGEST_WAIT),
            _ => FIRST_WAIT,
        };
        let retry = now.plus(wait);
        self.due.insert((retry, scope));
        self.held += usize::from(held);
        self.failures.insert(scope, Failure { why: why.to_owned(), retry, wait, held });
        if !held {
            self.latest = Some((now, why.to_owned()));
        }
        before.is_none_or(|before| before.why != why)
    }

    /// It is done, or not wanted any more; as it was, if it had failed.
    pub(crate) fn remove(&mut self, scope: Prefix) -> Option<Failure> {
        let failure = self.failures.remove(&scope)?;
        self.due.remove(&(failure.retry, scope));
        self.held -= usize::from(failure.held);
        Some(failure)
    }

    /// Why something about a scope is not done yet.
    pub(crate) fn get(&self, scope: Prefix) -> Option<&Failure> {
        self.failures.get(&scope)
    }

    /// What is to be tried again now. It stays until it is done.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> Vec<Prefix> {
        let mut due = Vec::new();
        while let Some((_, scope)) = self.due.first().copied().filter(|(retry, _)| *retry <= now) {
            self.due.pop_first();
            due.push(scope);
        }
        due
    }

    /// All of it is to be tried again now.
    pub(crate) fn take_all(&mut self) -> Vec<Prefix> {
        self.due.clear();
        self.failures.keys().copied().collect()
    }

    /// When something is to be tried again next.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.due.first().map(|(retry, _)| *retry)
    }

    /// How many failed.
    pub(crate) fn failing(&self) -> usize {
        self.failures.len() - self.held
    }

    /// How many must not be done yet.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Those, and what failed, with why.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Prefix, &Failure)> {
        self.failures.iter().map(|(scope, failure)| (*scope, failure))
    }

    /// The latest failure, and when that was.
    pub(crate) fn latest(&self) -> Option<&(Timestamp, String)> {
        self.latest.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_a_reason_is_news_once() {
        let (mut backoff, scope) = (Backoff::default(), "192.0.2.7".parse().unwrap());
        let mut now = Timestamp::from_secs(1000).unwrap();
        for (times, wait) in [1, 2, 4, 8, 16, 32, 60, 60].into_iter().enumerate() {
            assert_eq!(backoff.failed(scope, "no", false, now), times == 0);
            let next = backoff.next().unwrap();
            assert_eq!(next.since(now), Duration::from_secs(wait));
            assert!(backoff.take_due(now).is_empty());
            assert_eq!(backoff.take_due(next), [scope]);
            now = next;
        }
        assert!(backoff.failed(scope, "still not", false, now));
        assert_eq!(
            (backoff.failing(), backoff.held(), backoff.latest()),
            (1, 0, Some(&(now, "still not".into())))
        );
        assert!(backoff.failed(scope, "logged in", true, now));
        assert_eq!((backoff.failing(), backoff.held()), (0, 1));
        assert_eq!(backoff.next().unwrap().since(now), FIRST_WAIT);
        assert_eq!(backoff.remove(scope).map(|failure| failure.why), Some("logged in".to_owned()));
        assert_eq!((backoff.next(), backoff.held(), backoff.remove(scope)), (None, 0, None));
    }
}
