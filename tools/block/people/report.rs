//! How one backend is: a line on the control socket, and of `status`.

use psentry_records::Timestamp;
use psentry_stage::printable;
use serde::{Deserialize, Serialize};

use crate::control::line;
use crate::note::second;
use crate::panic::Order;
use crate::run::brake::Holding;
use crate::run::room::Full;

/// How one backend is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Report {
    /// Which.
    pub(crate) backend: String,
    /// Since when all that is wanted stands; absent: not all of it does, or psentry-block did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<Timestamp>,
    /// How many blocks are wanted; absent: not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) wanted: Option<usize>,
    /// How many of those stand, read from where they stand; absent: that could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) standing: Option<usize>,
    /// How many failed and are tried again.
    pub(crate) failing: usize,
    /// How many are made once somebody has logged out.
    pub(crate) waiting: usize,
    /// How many of those that are wanted have not been tried yet, for the backend has not got to them.
    pub(crate) queued: usize,
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
    /// Why records are being lost, of all backends together; absent: they are written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unwritten: Option<String>,
    /// The panic that holds, as this psentry-block sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) panic: Option<Order>,
    /// That the brake holds, of all backends together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) brake: Option<Holding>,
    /// That there is no room for another block, of all backends together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) full: Option<Full>,
}

impl Report {
    /// Of a backend that does not say how it is.
    pub(crate) fn without(backend: &str, error: String) -> Self {
        Report { backend: backend.to_owned(), error: Some(error), ..Report::default() }
    }

    /// As a line.
    pub(crate) fn line(&self) -> Vec<u8> {
        line(self)
    }

    /// Whether all that is wanted stands. Where that is not known, it does not.
    pub(crate) fn is_whole(&self) -> bool {
        self.failing == 0 && self.wanted.is_some() && self.standing >= self.wanted
    }

    /// How much of what is wanted stands, in words.
    pub(crate) fn enforced(&self) -> String {
        let number = |number: Option<usize>| number.map_or_else(|| "?".to_owned(), |n| n.to_string());
        format!("{} of {}", number(self.standing), number(self.wanted))
    }

    /// Why not all that is wanted stands, as the end of a sentence.
    pub(super) fn shortage(&self) -> String {
        let queued = match self.queued {
            0 => String::new(),
            1 => ", 1 waits for its turn".to_owned(),
            count => format!(", {count} wait for their turn"),
        };
        let failing = match self.failing {
            0 => String::new(),
            1 => ", 1 fails".to_owned(),
            count => format!(", {count} fail"),
        };
        let error = self.error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
        format!("{} {}{queued}{failing}{error}", self.backend, self.enforced())
    }

    /// The cells of a row.
    pub(super) fn row(&self) -> Vec<String> {
        let when = |text: &Option<String>, at: Option<Timestamp>| match (text, at) {
            (Some(text), Some(at)) => format!("{} {}", second(at), printable(text)),
            (Some(text), None) => printable(text),
            (None, _) => "-".to_owned(),
        };
        vec![
            self.backend.clone(),
            self.enforced(),
            self.failing.to_string(),
            self.waiting.to_string(),
            self.since.map_or_else(|| "-".to_owned(), second),
            when(&self.repair, self.repaired),
            when(&self.error, self.error_at),
        ]
    }

    /// What the cells of a row are.
    pub(super) fn head() -> Vec<String> {
        let head = ["BACKEND", "ENFORCED", "FAILING", "WAITING", "SINCE", "LAST REPAIR", "LATEST ERROR"];
        head.map(str::to_owned).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_to_stand_is_enforced() {
        let report = |wanted, standing, failing| Report { wanted, standing, failing, ..Report::default() };
        assert!(report(Some(0), Some(0), 0).is_whole() && report(Some(412), Some(412), 0).is_whole());
        for (wanted, standing, failing) in [
            (Some(412), Some(411), 0),
            (Some(412), None, 0),
            (None, Some(1), 0),
            (Some(1), Some(1), 1),
            (None, None, 0),
        ] {
            assert!(!report(wanted, standing, failing).is_whole(), "{wanted:?} {standing:?} {failing}");
        }
        assert_eq!(report(Some(412), None, 0).enforced(), "? of 412");
        let queued = Report { backend: "exec".to_owned(), queued: 5, ..report(Some(6), Some(1), 0) };
        assert_eq!(queued.shortage(), "exec 1 of 6, 5 wait for their turn");
        let leaving = Report { backend: "exec".to_owned(), ..report(Some(0), Some(0), 3) };
        assert_eq!(leaving.shortage(), "exec 0 of 0, 3 fail");
        // A line of a later psentry-block is read, too.
        let read: Report = serde_json::from_str("{\"backend\":\"nft\",\"wanted\":3,\"new\":1}").unwrap();
        assert_eq!((read.wanted, read.standing), (Some(3), None));
    }
}
