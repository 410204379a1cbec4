//! What is asked on the control socket, and what is answered: one line of JSON in, lines out. The transport is in
//! `tools/control`.
//!
//! | question | answer |
//! |---|---|
//! | a verdict record that blocks or unblocks | an outcome record for each backend |
//! | `{"ask":"flush"}` | an outcome `released` for each block and backend |
//! | `{"ask":"list"}` | an outcome record for each block that is there, and each backend |
//! | `{"ask":"why","addr":"192.0.2.7"}` | a [`Prospect`], and an outcome record for each block of it, there or not |
//! | `{"ask":"status"}` | a [`Report`] for each backend |
//!
//! Notes and errors beside them are those of [`psentry_control::Reply`].

use psentry_control::json_line;
use psentry_records::{Action, Prefix, Record, Timestamp, Verdict};
use psentry_stage::panic_file::Order;
use serde::{Deserialize, Serialize};

use crate::brake::Holding;
use crate::desired::Full;

/// The rule of a verdict that a person gives by a command.
pub(crate) const BY_HAND: &str = "by-hand";

/// A question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub(crate) enum Question {
    /// To block or to unblock, asked as a record.
    #[serde(skip)]
    Verdict(Box<Verdict>),
    /// To release everybody, and to delete every trace.
    Flush,
    /// Which blocks are there.
    List,
    /// Which blocks overlap this, and what would become of a verdict on it.
    Why { addr: Prefix },
    /// How each backend is.
    Status,
}

/// What a verdict on somebody who is not blocked would come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Prospect {
    /// Whether it would block.
    pub(crate) may_block: bool,
    /// What keeps it from that, or what to know of it, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
}

/// How one backend is. The last five are of all backends together, and the same in each line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Report {
    /// Which.
    pub(crate) backend: String,
    /// Since when all that is wanted is there; absent: not all of it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<Timestamp>,
    /// How many blocks are wanted; absent: not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) wanted: Option<usize>,
    /// How many of those are there, read from where they are; absent: that could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) standing: Option<usize>,
    /// How many failed and are tried again.
    pub(crate) failing: usize,
    /// How many are made once somebody has logged out.
    pub(crate) waiting: usize,
    /// How many have not been tried yet.
    pub(crate) queued: usize,
    /// Why what is there does not block.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) shadowed: Vec<String>,
    /// The latest failure, and when that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error_at: Option<Timestamp>,
    /// What was last put back that others took away, and when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) repair: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) repaired: Option<Timestamp>,
    /// Why what is wanted is not remembered beyond a reboot; absent: it is, or nobody asked for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<String>,
    /// Why records are being lost; absent: they are written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unwritten: Option<String>,
    /// The panic that holds, as this psentry-block sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) panic: Option<Order>,
    /// That the brake holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) brake: Option<Holding>,
    /// That there is no room for another block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) full: Option<Full>,
}

impl Report {
    /// Whether all that is wanted is there. Where that is not known, it is not.
    pub(crate) fn is_whole(&self) -> bool {
        self.failing == 0 && self.wanted.is_some() && self.standing >= self.wanted
    }
}

impl Question {
    /// Reads one.
    ///
    /// # Errors
    /// Why this is no question, as a sentence.
    pub(crate) fn parse(line: &str) -> Result<Self, String> {
        let no_question = match serde_json::from_str(line) {
            Ok(question) => return Ok(question),
            Err(error) => error,
        };
        match Record::parse(line) {
            Ok(Record::Verdict(verdict)) if verdict.body.action == Action::Watch => {
                Err("a verdict that only watches changes nothing".to_owned())
            }
            Ok(Record::Verdict(verdict)) => Ok(Question::Verdict(Box::new(verdict))),
            Ok(_) => Err(format!("this is no question ({no_question}), and no verdict")),
            Err(malformed) => {
                Err(format!("this is no question ({no_question}), and no verdict ({malformed})"))
            }
        }
    }

    /// As a line. Empty where a verdict cannot be encoded, which is never.
    pub(crate) fn line(&self) -> Vec<u8> {
        let Question::Verdict(verdict) = self else { return json_line(self) };
        let mut text = Vec::new();
        let _ = Record::Verdict((**verdict).clone()).encode(&mut text);
        text
    }

    /// Whether only root and the user of the service may ask this.
    pub(crate) fn changes(&self) -> bool {
        matches!(self, Question::Verdict(_) | Question::Flush)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let verdict = |action: &str| {
            format!(
                "{{\"timestamp\":\"2026-11-22T15:04:05Z\",\"event_type\":\"verdict\",\
                 \"verdict\":{{\"action\":\"{action}\",\"scope\":\"192.0.2.7\"}}}}"
            )
        };
        let Ok(Question::Verdict(block)) = Question::parse(&verdict("block")) else { panic!() };
        let why = |scope: &str| Question::Why { addr: scope.parse().unwrap() };
        for question in [
            Question::Verdict(block),
            Question::Flush,
            Question::List,
            why("192.0.2.7"),
            why("2001:db8::/32"),
            Question::Status,
        ] {
            let line = String::from_utf8(question.line()).unwrap();
            assert_eq!(Question::parse(line.trim()), Ok(question), "{line}");
        }
        let mapped = Question::parse("{\"ask\":\"why\",\"addr\":\"::ffff:192.0.2.7\",\"more\":1}");
        assert_eq!(mapped, Ok(why("192.0.2.7")));
        assert!(Question::parse("{\"ask\":\"why\",\"addr\":\"nowhere\"}").unwrap_err().contains("nowhere"));
        for line in [&*verdict("watch"), "", "{}", "{\"ask\":\"let-in\"}", "[", "{\"event_type\":\"alert\"}"]
        {
            assert!(Question::parse(line).is_err(), "{line}");
        }
    }
}
