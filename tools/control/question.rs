//! What is asked on the control sockets of all tools: one line of JSON in, lines out. Each tool says in its manual what it
//! answers, and refuses what it cannot do.
//!
//! | question | answer |
//! |---|---|
//! | a verdict record that blocks or unblocks | outcome records: what became of it |
//! | `{"ask":"flush"}` | an outcome `released` for each row that the tool shuts somebody out by |
//! | `{"ask":"list"}` | an outcome record for each row that the tool shuts somebody out by |
//! | `{"ask":"why","addr":"192.0.2.7"}` | those of them that overlap this; what else it is, is the tool's own |
//! | `{"ask":"status"}` | one JSON object a line, the tool's own |
//! | `{"ask":"confirm"}` | of psentry-trap alone: whether the ports of `--hide` and `--veil` stay so |

use psentry_records::{Action, Prefix, Record, Verdict};
use serde::{Deserialize, Serialize};

use crate::json_line;

/// The rule of a verdict that a person gives by a command.
pub const BY_HAND: &str = "by-hand";

/// A question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Question {
    /// To block or to unblock, asked as a record.
    #[serde(skip)]
    Verdict(Box<Verdict>),
    /// To release everybody, and to delete every trace.
    Flush,
    /// Who is shut out.
    List,
    /// By what this is shut out, or part of it.
    Why {
        /// An address or a prefix.
        addr: Prefix,
    },
    /// How the tool is.
    Status,
    /// To keep what ends by itself unless somebody shows that it locks nobody out.
    Confirm,
}

impl Question {
    /// Reads one.
    ///
    /// # Errors
    /// Why this is no question, as a sentence.
    pub fn parse(line: &str) -> Result<Self, String> {
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
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        let Question::Verdict(verdict) = self else { return json_line(self) };
        let mut text = Vec::new();
        let _ = Record::Verdict((**verdict).clone()).encode(&mut text);
        text
    }

    /// Whether only root and the user of the service may ask this.
    #[must_use]
    pub fn changes(&self) -> bool {
        matches!(self, Question::Verdict(_) | Question::Flush | Question::Confirm)
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
            Question::Confirm,
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
