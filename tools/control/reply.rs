//! An answer as a client has it: the tool's own lines, and beside them those that any answer may have, `{"note":"..."}` for
//! what else the client should know, and `{"error":"..."}` for why something is missing.

use psentry_stage::printable;
use serde::{Deserialize, Serialize};

use crate::refusal;

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The tool's own lines.
    pub lines: Vec<String>,
    /// What else the client should know; sentences that are fit for a terminal.
    pub notes: Vec<String>,
    /// Why something is missing; sentences that are fit for a terminal.
    pub errors: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    note: String,
}

impl Reply {
    /// The answer of these lines.
    pub fn of(lines: impl IntoIterator<Item = String>) -> Self {
        let mut reply = Reply::default();
        for line in lines {
            if let Some((error, _)) = refusal::parse(&line) {
                reply.errors.push(error);
            } else if let Ok(Note { note }) = serde_json::from_str(&line) {
                reply.notes.push(printable(&note));
            } else {
                reply.lines.push(line);
            }
        }
        reply
    }
}

/// Anything as a line of JSON. Empty but for its newline where it has no form in JSON, which no answer is.
#[must_use]
pub fn json_line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The line of a note.
#[must_use]
pub fn note_line(sentence: &str) -> Vec<u8> {
    json_line(&Note { note: sentence.to_owned() })
}

/// The line that says why something of an answer is missing, which goes on.
#[must_use]
pub fn error_line(error: &str) -> Vec<u8> {
    refusal::line(error, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_and_errors_are_apart_from_the_tool_s_own_lines() {
        let line = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let own = ["{\"note\":\"x\",\"more\":1}", "{\"error\":\"x\",\"backend\":\"nft\"}", "well", ""];
        let given = own.map(str::to_owned).into_iter();
        let given = given.chain([line(note_line("so\u{7}")), line(error_line("nft is late\u{1b}"))]);
        let reply = Reply::of(given);
        assert_eq!(reply.lines, own);
        assert_eq!(reply.notes, ["so\\u{7}"]);
        assert_eq!(reply.errors, ["nft is late\\u{1b}"]);
    }
}
