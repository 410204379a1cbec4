//! The note that stands beside a block in the kernel or in a file: `sequential at 2026-11-22T15:04:05Z until
//! 2026-11-22T16:04:05Z`. It tells people why and since when, and tells a later psentry-block when the block ends. That
//! of a block that no handshake proves reads `sequential (unproven) at ...`. A psentry-block of before wrote neither that nor
//! a beginning.
//!
//! A rule's name comes from outside, and notes go into rulesets, restore files and hosts.deny: only letters,
//! digits and a few marks of it are kept.

use std::time::Duration;

use psentry_records::{Prefix, Timestamp};
use psentry_stage::second;

use crate::block::{Block, Entry, alike};

/// Longest rule name that is kept: nft allows 127 bytes for a comment; beginning and end take 51 of them, and 7 more at
/// the end of all time, which is no whole second, and `UNPROVEN` takes 11.
const LONGEST_RULE: usize = 58;

/// Stands for a rule that has no name.
const NO_RULE: &str = "psentry";

/// Stands for an end that is not fixed.
const NO_END: &str = "unblocked";

/// Stands behind the rule of a block that no handshake proves. No rule's name holds a parenthesis, see `clean`.
const UNPROVEN: &str = " (unproven)";

/// What a note tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Noted {
    /// The rule that decided.
    pub(crate) rule: Option<String>,
    /// The moment of the verdict.
    pub(crate) since: Option<Timestamp>,
    /// The end; `None`: when somebody ends it.
    pub(crate) until: Option<Timestamp>,
    /// No handshake proves it.
    pub(crate) unproven: bool,
}

/// The note for a block.
pub(crate) fn write(block: &Block) -> String {
    let rule = block.rule.as_deref().map(clean).filter(|rule| !rule.is_empty());
    let mut note = rule.unwrap_or_else(|| NO_RULE.to_owned());
    if block.unproven {
        note.push_str(UNPROVEN);
    }
    if let Some(since) = block.since {
        note.push_str(&format!(" at {}", second(since)));
    }
    note.push_str(&format!(" until {}", block.until.map_or_else(|| NO_END.to_owned(), moment)));
    note
}

/// What a note tells; `None`: this is no note of ours.
pub(crate) fn read(note: &str) -> Option<Noted> {
    let (rule, end) = note.trim().rsplit_once(" until ")?;
    let until = if end == NO_END { None } else { Some(end.parse().ok()?) };
    let begun = rule.rsplit_once(" at ").and_then(|(rule, since)| Some((rule, since.parse().ok()?)));
    let (rule, since) = begun.map_or((rule, None), |(rule, since)| (rule, Some(since)));
    let unproven = rule.ends_with(UNPROVEN);
    let rule = rule.strip_suffix(UNPROVEN).unwrap_or(rule);
    Some(Noted { rule: (rule != NO_RULE).then(|| clean(rule)), since, until, unproven })
}

/// A block of which the kernel says one end and its note maybe another. The note is right: it says what was wanted, and does
/// not waver with the clock. Where the kernel says something else (a saved ruleset was loaded, the machine slept, the clock
/// was set), the entry is damaged, and put again. `longest` is the longest time that the kernel can be told: of a longer block
/// it has to know half of that.
pub(crate) fn reconcile(
    scope: Prefix,
    kernel: Option<Timestamp>,
    noted: Option<Noted>,
    now: Timestamp,
    longest: Duration,
) -> Entry {
    let Some(Noted { rule, since, until, unproven }) = noted else { return Entry::new(scope, kernel, None) };
    let capped = matches!((kernel, until), (Some(kernel), Some(until))
        if until > kernel && kernel.since(now) >= longest / 2);
    let damaged = !capped && !alike(kernel, until);
    Entry { since, unproven, damaged, ..Entry::new(scope, until, rule) }
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

    fn block(rule: Option<&str>, since: Option<Timestamp>, until: Option<Timestamp>) -> Block {
        Block { rule: rule.map(str::to_owned), since, until, ..Block::default() }
    }

    #[test]
    fn a_note_is_read_back() {
        let at: Timestamp = "2026-11-22T14:04:05Z".parse().unwrap();
        let until: Timestamp = "2026-11-22T15:04:05Z".parse().unwrap();
        for rule in [Some("sequential"), Some("many ports"), Some("looked at twice"), None] {
            for (since, until) in
                [(Some(at), Some(until)), (Some(at), None), (None, Some(until)), (None, None)]
            {
                for unproven in [false, true] {
                    let note = write(&Block { unproven, ..block(rule, since, until) });
                    let want = Noted { rule: rule.map(str::to_owned), since, until, unproven };
                    assert_eq!(read(&note), Some(want), "{note}");
                }
            }
        }
        let note = write(&block(Some("fan"), Some(at), Some(until)));
        assert_eq!(note, "fan at 2026-11-22T14:04:05Z until 2026-11-22T15:04:05Z");
        let note = write(&Block { unproven: true, ..block(Some("fan"), Some(at), None) });
        assert_eq!(note, "fan (unproven) at 2026-11-22T14:04:05Z until unblocked");
        // Nobody makes it so by the name of a rule.
        assert!(!read(&write(&block(Some("fan (unproven)"), Some(at), None))).unwrap().unproven);
        // As psentry-block wrote it before.
        assert_eq!(write(&block(Some("fan"), None, Some(until))), "fan until 2026-11-22T15:04:05Z");
    }

    #[test]
    fn where_kernel_and_note_disagree_the_note_is_right_and_the_entry_damaged() {
        let at = |second: u64| Timestamp::from_secs(second).unwrap();
        let scope = "192.0.2.7".parse().unwrap();
        let end = |kernel: Option<u64>, noted: Option<u64>| {
            let noted = Some(Noted { until: noted.map(at), ..Noted::default() });
            let entry = reconcile(scope, kernel.map(at), noted, at(0), Duration::from_secs(500));
            (entry.until, entry.damaged)
        };
        assert_eq!(end(Some(100), Some(101)), (Some(at(101)), false));
        assert_eq!(
            end(Some(400), Some(900)),
            (Some(at(900)), false),
            "the kernel cannot be told more at once"
        );
        assert_eq!(end(Some(100), Some(900)), (Some(at(900)), true));
        assert_eq!(end(Some(100), Some(50)), (Some(at(50)), true));
        assert_eq!(end(Some(100), None), (None, true));
        assert_eq!(end(None, Some(100)), (Some(at(100)), true));
        let without = reconcile(scope, Some(at(9)), None, at(0), Duration::ZERO);
        assert_eq!(without, Entry::new(scope, Some(at(9)), None));
    }

    #[test]
    fn nothing_of_a_hostile_rule_name_is_syntax() {
        let note =
            write(&block(Some("a\"; flush ruleset #\n until unblocked\u{1b}[0m'$(reboot)"), None, None));
        assert!(note.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:/+,@ ".contains(&b)), "{note}");
        let longest = block(Some(&"x".repeat(4000)), Some(Timestamp::MAX), Some(Timestamp::MAX));
        let longest = Block { unproven: true, ..longest };
        assert!(write(&longest).len() <= 127);
    }

    #[test]
    fn an_end_within_a_second_is_rounded_up() {
        let until: Timestamp = "2026-11-22T15:04:05.000001Z".parse().unwrap();
        assert_eq!(moment(until), "2026-11-22T15:04:06Z");
        assert_eq!(second(until), "2026-11-22T15:04:05Z");
    }

    #[test]
    fn what_others_wrote_is_no_note() {
        for text in ["", "until", "x until tomorrow", "managed by somebody"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
