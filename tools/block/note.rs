//! The note that stands beside a block in the kernel or in a file: `sequential until 2026-11-22T15:04:05Z`. It
//! tells people why, and tells a later psentry-block when the block ends.
//!
//! A rule's name comes from outside, and notes go into rulesets, restore files and hosts.deny: only letters,
//! digits and a few marks of it are kept.

use std::time::Duration;

use psentry_records::{Prefix, Timestamp};

use crate::backend::Entry;

/// Longest rule name that is kept: nft allows 127 bytes for a comment, the end takes 27 of them.
const LONGEST_RULE: usize = 80;

/// How far the kernel's clock and a note, which is written in whole seconds, may disagree.
const SLACK: Duration = Duration::from_secs(2);

/// Stands for a rule that has no name.
const NO_RULE: &str = "psentry";

/// Stands for an end that is not fixed.
const NO_END: &str = "unblocked";

/// The note for a block.
pub(crate) fn write(rule: Option<&str>, until: Option<Timestamp>) -> String {
    let rule = rule.map(clean).filter(|rule| !rule.is_empty()).unwrap_or_else(|| NO_RULE.to_owned());
    format!("{rule} until {}", until.map_or_else(|| NO_END.to_owned(), moment))
}

/// The rule and the end that a note tells of; `None`: this is no note of ours.
pub(crate) fn read(note: &str) -> Option<(Option<String>, Option<Timestamp>)> {
    let (rule, end) = note.trim().rsplit_once(" until ")?;
    let until = if end == NO_END { None } else { Some(end.parse().ok()?) };
    Some(((rule != NO_RULE).then(|| clean(rule)), until))
}

/// A block of which the kernel says one end and its note maybe another. The note is right where the kernel could
/// not be told the whole, and where they say the same, for it does not waver with the clock; otherwise the kernel is.
pub(crate) fn reconcile(
    scope: Prefix,
    kernel: Option<Timestamp>,
    noted: Option<(Option<String>, Option<Timestamp>)>,
) -> Entry {
    let (rule, noted) = noted.unwrap_or_default();
    let early = matches!((kernel, noted), (Some(kernel), Some(noted)) if noted.since(kernel) > SLACK);
    let until = match (kernel, noted) {
        (Some(kernel), Some(noted)) if kernel.since(noted) <= SLACK => Some(noted),
        (kernel, _) => kernel,
    };
    Entry { scope, until, rule, early }
}

/// A moment to the second, rounded up, so that it is never too early.
pub(crate) fn moment(moment: Timestamp) -> String {
    let whole = Timestamp::from_secs(moment.secs_ceil()).unwrap_or(moment);
    whole.to_string().replace(".000000", "")
}

/// What of a text from outside may stand in a note.
fn clean(rule: &str) -> String {
    let kept: String = rule
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_.:/+,@ ".contains(c) { c } else { '_' })
        .take(LONGEST_RULE)
        .collect();
    kept.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_back() {
        let until: Timestamp = "2026-11-22T15:04:05Z".parse().unwrap();
        for (rule, end) in
            [(Some("sequential"), Some(until)), (None, Some(until)), (Some("many ports"), None), (None, None)]
        {
            let note = write(rule, end);
            assert_eq!(read(&note), Some((rule.map(str::to_owned), end)), "{note}");
        }
        assert_eq!(write(Some("fan"), Some(until)), "fan until 2026-11-22T15:04:05Z");
    }

    #[test]
    fn of_kernel_and_note_the_one_that_knows_is_believed() {
        let at = |second: u64| Timestamp::from_secs(second).unwrap();
        let scope = "192.0.2.7".parse().unwrap();
        let end = |kernel: Option<u64>, noted: Option<u64>| {
            let entry = reconcile(scope, kernel.map(at), Some((None, noted.map(at))));
            (entry.until, entry.early)
        };
        assert_eq!(end(Some(100), Some(101)), (Some(at(101)), false));
        assert_eq!(end(Some(100), Some(900)), (Some(at(900)), true));
        assert_eq!(end(Some(100), Some(50)), (Some(at(100)), false));
        assert_eq!(end(Some(100), None), (Some(at(100)), false));
        assert_eq!(end(None, Some(100)), (None, false));
        assert_eq!(reconcile(scope, None, None), Entry::new(scope, None, None));
    }

    #[test]
    fn nothing_of_a_hostile_rule_name_is_syntax() {
        let note = write(Some("a\"; flush ruleset #\n until unblocked\u{1b}[0m'$(reboot)"), None);
        assert!(note.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:/+,@ ".contains(&b)), "{note}");
        assert!(write(Some(&"x".repeat(4000)), Some(Timestamp::MAX)).len() <= 127);
    }

    #[test]
    fn an_end_within_a_second_is_rounded_up() {
        let until: Timestamp = "2026-11-22T15:04:05.000001Z".parse().unwrap();
        assert_eq!(moment(until), "2026-11-22T15:04:06Z");
    }

    #[test]
    fn what_others_wrote_is_no_note() {
        for text in ["", "until", "x until tomorrow", "managed by somebody"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
