//! What psentry-trap answers on its control socket. The questions are those of all tools, [`psentry_control::Question`].
//!
//! | question | answer |
//! |---|---|
//! | a verdict record that unblocks | an outcome `released` for each source that is released |
//! | `{"ask":"flush"}` | the same for everybody |
//! | `{"ask":"list"}` | an outcome record for each source, or wider network, in quarantine |
//! | `{"ask":"why","addr":"192.0.2.7"}` | those of them that overlap this |
//! | `{"ask":"status"}` | a [`Report`] |
//! | `{"ask":"confirm"}` | a [`Confirmation`] |

use std::collections::BTreeMap;
use std::time::Duration;

use psentry_records::{Action, Common, Outcome, OutcomeBody, OutcomeResult, Prefix, Record, Timestamp};
use psentry_stage::panic_file::Order;
use serde::{Deserialize, Serialize};

/// Who did it, in outcome records.
const BACKEND: &str = "trap";

/// How psentry-trap is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Report {
    /// How many sources and wider networks are in quarantine; absent: more than are counted, since it is full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) quarantined: Option<usize>,
    /// Whether it only observes, and puts nobody there.
    pub(crate) observes: bool,
    /// Ports that are hidden from whoever is not vouched for; absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hidden: Option<String>,
    /// Ports that are veiled from strangers; absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) veiled: Option<String>,
    /// How many sources are vouched for.
    pub(crate) vouched: usize,
    /// For how many seconds yet it waits for 'psentry-trap confirm'; absent: it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) confirm_left: Option<u64>,
    /// The panic that holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) panic: Option<Order>,
    /// What is not as it should be, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// The monitor's counters, as in a `stats` record.
    pub(crate) counters: BTreeMap<String, u64>,
}

/// What became of a command to confirm.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Confirmation {
    /// Whether the ports stay hidden and veiled.
    pub(crate) confirmed: bool,
    /// That in a sentence, and if not, what to do.
    pub(crate) what: String,
}

impl Confirmation {
    pub(crate) fn new(confirmed: bool, what: &str) -> Self {
        Confirmation { confirmed, what: what.to_owned() }
    }
}

/// A line for one that is in quarantine now, for so long yet.
pub(crate) fn listed(scope: Prefix, left: Duration, now: Timestamp) -> Vec<u8> {
    let until = (left < Duration::MAX).then(|| now.plus(left));
    outcome(OutcomeBody { until, ..body(Action::Block, scope, OutcomeResult::Already) }, now)
}

/// A line for one that is released.
pub(crate) fn released(scope: Prefix, now: Timestamp) -> Vec<u8> {
    outcome(body(Action::Unblock, scope, OutcomeResult::Released), now)
}

fn body(action: Action, scope: Prefix, result: OutcomeResult) -> OutcomeBody {
    OutcomeBody::new(action, scope, Some(BACKEND), result)
}

fn outcome(body: OutcomeBody, now: Timestamp) -> Vec<u8> {
    let mut line = Vec::new();
    // A record of so few fields is never too long.
    let _ = Record::Outcome(Outcome { common: Common::at(now), body }).encode(&mut line);
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_an_outcome_as_a_block_is() {
        let now: Timestamp = "2026-11-22T15:04:05Z".parse().unwrap();
        let scope = "2001:db8:7::/64".parse().unwrap();
        let line = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let head = "{\"timestamp\":\"2026-11-22T15:04:05.000000Z\",\"event_type\":\"outcome\",\"outcome\":{\"action\":";
        assert_eq!(
            line(listed(scope, Duration::from_millis(20_500), now)),
            format!(
                "{head}\"block\",\"scope\":\"2001:db8:7::/64\",\"backend\":\"trap\",\"result\":\"already\",\
                 \"until\":\"2026-11-22T15:04:25.500000Z\"}}}}\n"
            )
        );
        assert!(!line(listed(scope, Duration::MAX, now)).contains("until"));
        assert_eq!(
            line(released(scope, now)),
            format!(
                "{head}\"unblock\",\"scope\":\"2001:db8:7::/64\",\"backend\":\"trap\",\"result\":\"released\"}}}}\n"
            )
        );
    }
}
