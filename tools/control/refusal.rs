//! The line that says why there is no answer, or no more of it: `{"error":"a sentence","kind":"busy"}`. The kind is there
//! where a client has to know more than the sentence.

use psentry_stage::printable;
use serde_json::{Value, json};

/// What a client has to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Too many ask at once: ask again.
    Busy,
    /// This user may not ask that.
    Forbidden,
    /// Whoever should answer hangs.
    Hangs,
    /// Whoever should answer is about to be gone.
    Ending,
}

impl Kind {
    const ALL: [(Kind, &str); 4] = [
        (Kind::Busy, "busy"),
        (Kind::Forbidden, "forbidden"),
        (Kind::Hangs, "hangs"),
        (Kind::Ending, "ending"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }
}

/// The line.
pub(crate) fn line(error: &str, kind: Option<Kind>) -> Vec<u8> {
    let value = match kind {
        Some(kind) => json!({ "error": error, "kind": kind.name() }),
        None => json!({ "error": error }),
    };
    format!("{value}\n").into_bytes()
}

/// Reads one; `None`: this line is something else.
pub(crate) fn parse(line: &str) -> Option<(String, Option<Kind>)> {
    let Value::Object(fields) = serde_json::from_str(line).ok()? else { return None };
    let error = fields.get("error")?.as_str()?;
    // A record or a report may have an error as well, among other fields.
    if fields.keys().any(|key| key != "error" && key != "kind") {
        return None;
    }
    let name = fields.get("kind").and_then(Value::as_str);
    let kind = Kind::ALL.iter().find(|(_, other)| Some(*other) == name).map(|(kind, _)| *kind);
    Some((printable(error), kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else_is_one() {
        for kind in [None, Some(Kind::Busy), Some(Kind::Forbidden), Some(Kind::Hangs), Some(Kind::Ending)] {
            let line = String::from_utf8(line("it \"fails\"", kind)).unwrap();
            assert_eq!(parse(&line), Some(("it \"fails\"".to_owned(), kind)), "{line}");
        }
        assert_eq!(parse("{\"error\":\"\\u001b[2J\"}"), Some(("\\u{1b}[2J".to_owned(), None)));
        assert_eq!(parse("{\"error\":\"x\",\"kind\":\"of a later version\"}"), Some(("x".to_owned(), None)));
        for line in ["", "error", "[]", "{}", "{\"error\":1}", "{\"backend\":\"nft\",\"error\":\"x\"}"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
