//! Entries of a set as lines of `ipset save` and `ipset restore`. Reads and writes text, runs nothing.

use std::time::Duration;

use psentry_records::{Prefix, Timestamp};

use crate::backend::{Block, Entry};
use crate::note;

/// The longest timeout of ipset, in seconds.
pub(super) const LONGEST: u64 = 2_147_483;

/// The set of a family.
pub(super) fn set(ipv4: bool) -> &'static str {
    if ipv4 { "psentry4" } else { "psentry6" }
}

/// The line that blocks. To ipset a timeout of 0 means: for ever.
pub(super) fn add(ipv4: bool, scope: Prefix, block: &Block, now: Timestamp) -> String {
    let timeout = block.seconds_left(now).map_or(0, |left| left.clamp(1, LONGEST));
    let note = note::write(block.rule.as_deref(), block.until);
    format!("add {} {scope} timeout {timeout} comment \"{note}\"\n", set(ipv4))
}

/// When an entry ends: by the kernel, and by its note.
pub(super) type Times = (Option<Timestamp>, Option<Timestamp>);

/// The block that a line of `ipset save` tells of.
pub(super) fn entry(line: &str, now: Timestamp) -> Option<(Entry, Times)> {
    let words = shlex::split(line)?;
    let [add, _, scope, rest @ ..] = &*words else { return None };
    if add != "add" {
        return None;
    }
    let value = |name: &str| {
        let at = rest.iter().position(|word| word == name)?;
        rest.get(at + 1)
    };
    let seconds: u64 = value("timeout").and_then(|text| text.parse().ok()).unwrap_or(0);
    let kernel = (seconds > 0).then(|| now.plus(Duration::from_secs(seconds)));
    let noted = value("comment").and_then(|text| note::read(text));
    let times = (kernel, noted.as_ref().and_then(|(_, until)| *until));
    Some((note::reconcile(scope.parse().ok()?, kernel, noted), times))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_read_back() {
        let now: Timestamp = "2026-11-22T15:04:05Z".parse().unwrap();
        for (scope, seconds) in
            [("192.0.2.0/24", Some(600)), ("2001:db8::/64", None), ("192.0.2.7", Some(9_000_000))]
        {
            let scope: Prefix = scope.parse().unwrap();
            let until = seconds.map(|seconds| now.plus(Duration::from_secs(seconds)));
            let block = Block { until, rule: Some("fan".to_owned()), ..Block::default() };
            let line = add(scope.is_ipv4(), scope, &block, now);
            let kernel = seconds.map(|seconds| now.plus(Duration::from_secs(seconds.min(LONGEST))));
            let early = seconds.is_some_and(|seconds| seconds > LONGEST);
            let want = Entry { early, ..Entry::new(scope, until, Some("fan".to_owned())) };
            assert_eq!(entry(&line, now), Some((want, (kernel, until))));
        }
        assert_eq!(entry("create psentry4 hash:net family inet timeout 0", now), None);
        assert_eq!(
            entry("add psentry4 192.0.2.7 timeout 60", now).unwrap().0.until,
            Some(now.plus(Duration::from_secs(60)))
        );
    }
}
