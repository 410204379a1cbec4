//! What an earlier run left, when the next one starts: what stands, beside what is remembered. A pure decision: what
//! stands is right, for whoever changed it meanwhile decided so; what is missing is put back.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use psentry_records::{Prefix, Timestamp};

use crate::backend::{Block, Entry};

/// How far the kernel's clock may be from ours.
const SLACK: Duration = Duration::from_secs(2);

/// What an earlier run left.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// What stands, each with all that is known of the block.
    pub(crate) found: Vec<(Entry, Block)>,
    /// Of which it is not known whether it stands.
    pub(crate) unsure: Vec<Entry>,
    /// What is remembered and does not stand, in the order of their scopes.
    pub(crate) missing: Vec<(Prefix, Block)>,
    /// What stands otherwise than it is remembered.
    pub(crate) news: Vec<Prefix>,
    /// What of it must not be blocked any more, and why.
    pub(crate) unwanted: Vec<(Prefix, String)>,
}

impl Left {
    /// What stands, what may stand, and what is remembered, if anything is.
    pub(crate) fn compare(
        found: Vec<Entry>,
        unsure: Vec<Entry>,
        remembered: Option<HashMap<Prefix, Block>>,
    ) -> Self {
        let keeps = remembered.is_some();
        let mut remembered = remembered.unwrap_or_default();
        let mut news = Vec::new();
        let all_of_it = |entry: Entry| {
            let known = remembered.remove(&entry.scope);
            let as_known = |block: &Block| {
                alike(block.until, entry.until)
                    && block.ports == entry.ports
                    && block.unproven == entry.unproven
            };
            if keeps && !known.as_ref().is_some_and(as_known) {
                news.push(entry.scope);
            }
            let block = entry.with(known.unwrap_or_default());
            (entry, block)
        };
        let found = found.into_iter().map(all_of_it).collect();
        let doubtful: HashSet<Prefix> = unsure.iter().map(|entry| entry.scope).collect();
        let mut missing: Vec<(Prefix, Block)> =
            remembered.into_iter().filter(|(scope, _)| !doubtful.contains(scope)).collect();
        missing.sort_unstable_by_key(|(scope, _)| *scope);
        Left { found, unsure, missing, news, unwanted: Vec::new() }
    }

    /// Puts nothing back, for a panic holds. Gives what is to be forgotten.
    pub(crate) fn forget(&mut self) -> Vec<Prefix> {
        std::mem::take(&mut self.missing).into_iter().map(|(scope, _)| scope).collect()
    }
}

fn alike(a: Option<Timestamp>, b: Option<Timestamp>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.since(b).max(b.since(a)) <= SLACK,
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(last: u8) -> Prefix {
        format!("192.0.2.{last}").parse().unwrap()
    }

    fn at(second: u64) -> Option<Timestamp> {
        Timestamp::from_secs(second)
    }

    fn entry(last: u8, until: Option<Timestamp>) -> Entry {
        Entry::new(scope(last), until, None)
    }

    #[test]
    fn what_stands_is_right_and_what_is_missing_is_put_back() {
        let reason = Some("7 ports".to_owned());
        let block = |until| Block {
            until,
            rule: Some("fan".to_owned()),
            since: at(40),
            reason: reason.clone(),
            ..Block::default()
        };
        let remembered = [(1, at(100)), (2, at(100)), (3, at(100)), (4, None), (5, at(100))];
        let remembered = remembered.map(|(last, until)| (scope(last), block(until))).into();
        let found = vec![entry(1, at(101)), entry(2, at(50)), entry(9, at(100))];
        let left = Left::compare(found, vec![entry(5, at(100))], Some(remembered));
        assert_eq!(left.missing, [(scope(3), block(at(100))), (scope(4), block(None))]);
        assert_eq!(left.news, [scope(2), scope(9)]);
        assert_eq!(left.found[0].1.rule.as_deref(), Some("fan"));
        assert_eq!(left.found[1].1, block(at(50)));
    }

    #[test]
    fn without_a_memory_nothing_is_missing_or_new() {
        let left = Left::compare(vec![entry(1, None)], Vec::new(), None);
        assert!(left.missing.is_empty() && left.news.is_empty());
    }
}
