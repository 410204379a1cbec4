//! What is asked on the control socket, and how: a verdict record, or `{"ask":"status"}`, or
//! `{"ask":"why","addr":"192.0.2.7"}`, or `{"ask":"take-back","backends":["nft"]}`, or `{"ask":"let-in","backends":["exec"]}`.
//! Answers are outcome records, reports of backends, what the main loop knows (see [`Prospect`] and [`Letting`]), or
//! `{"error":"..."}`.

use std::sync::mpsc::Sender;

use psentry_records::{Action, Prefix, Record, Verdict};
use serde::{Deserialize, Serialize};

/// A question.
#[derive(Debug)]
pub(crate) enum Question {
    /// To block or to unblock.
    Verdict(Box<Verdict>),
    /// How each backend is.
    Status,
    /// Which blocks overlap this.
    Why(Prefix),
    /// To give up what does not stand yet on these backends; none named: on all.
    TakeBack(Vec<String>),
    /// To let in all whom these backends shut out, and whether that is waited for.
    LetIn(Vec<String>, bool),
}

/// A question, and where its answers go.
pub(crate) struct Request {
    pub(crate) question: Question,
    pub(crate) answers: Answers,
}

/// Where answers go. Nobody waits for whoever reads them.
pub(crate) type Answers = Sender<Answer>;

/// A piece of an answer.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Each of these backends will answer; with none of them nothing more comes.
    Expect(Vec<&'static str>),
    /// Lines, or none, and which of them it is the answer of; with nobody, nothing more comes.
    Lines(Option<String>, Vec<u8>),
}

/// What is asked besides verdicts.
#[derive(Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub(super) enum Ask {
    /// See [`Question::Status`].
    Status,
    /// See [`Question::Why`].
    Why {
        /// Which address, or which prefix.
        addr: String,
    },
    /// See [`Question::TakeBack`].
    TakeBack {
        /// Which backends.
        #[serde(default)]
        backends: Vec<String>,
    },
    /// See [`Question::LetIn`].
    LetIn {
        /// Which backends.
        backends: Vec<String>,
        /// Whether each block's outcome is waited for.
        #[serde(default)]
        wait: bool,
    },
}

/// What a verdict on somebody who is not blocked would come to, as far as the main loop knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Prospect {
    /// Whether it would block.
    pub(crate) may_block: bool,
    /// What keeps it from that, or what to know of it, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
}

/// Which backends are about to let everybody in.
#[derive(Serialize, Deserialize)]
pub(crate) struct Letting {
    /// Their names.
    pub(crate) letting_in: Vec<String>,
}

/// A line that says why there is no answer, and nothing else.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Trouble {
    /// In a sentence.
    pub(super) error: String,
}

impl Question {
    /// Reads one.
    pub(super) fn read(line: &str) -> Result<Self, String> {
        if let Ok(ask) = serde_json::from_str::<Ask>(line) {
            return Ok(match ask {
                Ask::Status => Question::Status,
                Ask::Why { addr } => Question::Why(addr.parse().map_err(|why| format!("addr: {why}"))?),
                Ask::TakeBack { backends } => Question::TakeBack(backends),
                Ask::LetIn { backends, wait } => Question::LetIn(backends, wait),
            });
        }
        match Record::parse(line) {
            Ok(Record::Verdict(verdict)) if verdict.body.action == Action::Watch => {
                Err("a verdict that only watches changes nothing".to_owned())
            }
            Ok(Record::Verdict(verdict)) => Ok(Question::Verdict(Box::new(verdict))),
            Ok(_) => Err("this is neither a question nor a verdict".to_owned()),
            Err(malformed) => Err(format!("this is neither a question nor a verdict: {malformed}")),
        }
    }
}

/// The line for an error.
pub(super) fn trouble(error: impl Into<String>) -> Vec<u8> {
    line(&Trouble { error: error.into() })
}

/// Anything as a line.
pub(crate) fn line(value: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec(value).unwrap_or_default();
    text.push(b'\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_verdicts_are_told_apart() {
        assert!(matches!(Question::read("{\"ask\":\"status\"}"), Ok(Question::Status)));
        let why = Question::read("{\"ask\":\"why\",\"addr\":\"::ffff:192.0.2.7\",\"more\":1}");
        assert!(matches!(why, Ok(Question::Why(addr)) if addr.is_ipv4() && addr.is_host()));
        let why = Question::read("{\"ask\":\"why\",\"addr\":\"192.0.2.0/24\"}");
        assert!(matches!(why, Ok(Question::Why(scope)) if scope.len() == 24));
        assert!(Question::read("{\"ask\":\"why\",\"addr\":\"nowhere\"}").unwrap_err().contains("nowhere"));
        let back = Question::read("{\"ask\":\"take-back\",\"backends\":[\"nft\"]}");
        assert!(matches!(back, Ok(Question::TakeBack(backends)) if backends == ["nft"]));
        let all = Question::read("{\"ask\":\"take-back\"}");
        assert!(matches!(all, Ok(Question::TakeBack(backends)) if backends.is_empty()));
        let open = Question::read("{\"ask\":\"let-in\",\"backends\":[\"exec\"]}");
        assert!(matches!(open, Ok(Question::LetIn(backends, false)) if backends == ["exec"]));
        let verdict = |action: &str| {
            format!(
                "{{\"timestamp\":\"2026-11-22T15:04:05Z\",\"event_type\":\"verdict\",\
                 \"verdict\":{{\"action\":\"{action}\",\"scope\":\"192.0.2.7\"}}}}"
            )
        };
        assert!(matches!(Question::read(&verdict("block")), Ok(Question::Verdict(_))));
        assert!(matches!(Question::read(&verdict("unblock")), Ok(Question::Verdict(_))));
        for line in [&*verdict("watch"), "", "{}", "{\"ask\":\"flush\"}", "[", "{\"event_type\":\"alert\"}"] {
            assert!(Question::read(line).is_err(), "{line}");
        }
    }
}
