//! One line of the stream: which record it is, read from JSON and written to it.
//!
//! Reading is lenient: unknown fields and unknown event types pass. What is malformed is an error that names the
//! place; whoever reads counts it and goes on. `write.rs` is strict.

mod write;

use std::borrow::Cow;
use std::net::IpAddr;

use serde::Deserialize;

use crate::address::read_addr;
use crate::{
    Common, MAX_LINE, Outcome, OutcomeBody, Prefix, Probe, ProbeBody, Proto, Stats, StatsBody, Timestamp,
    Verdict, VerdictBody, Vouch, VouchBody,
};

/// A line of the stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A sensor saw a contact.
    Probe(Probe),
    /// The judge decided.
    Verdict(Verdict),
    /// The blocker did what was decided, or did not.
    Outcome(Outcome),
    /// A script saw a login.
    Vouch(Vouch),
    /// The counters of a stage.
    Stats(Stats),
    /// Well-formed, and of another type, which is all that is kept of it.
    Other(String),
}

/// Why a line is no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Longer than a pipe carries in one piece.
    #[error("it is longer than {MAX_LINE} bytes")]
    Oversized,
    /// Bytes that are no UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// Not JSON, or a field of the wrong type, which it names.
    #[error("{0}")]
    Json(String),
    /// A record that says too little.
    #[error("a {0} needs the field {1}")]
    Lacks(&'static str, &'static str),
}

/// A line as it is read: fields in any order, and at most the body that its type calls for.
#[derive(Deserialize)]
struct ReadLine<'a> {
    #[serde(borrow)]
    event_type: Cow<'a, str>,
    timestamp: Timestamp,
    #[serde(default)]
    host: Option<String>,
    #[serde(default, deserialize_with = "read_addr")]
    src_ip: Option<IpAddr>,
    #[serde(default)]
    src_port: Option<u16>,
    #[serde(default, deserialize_with = "read_addr")]
    dest_ip: Option<IpAddr>,
    #[serde(default)]
    dest_port: Option<u16>,
    #[serde(default)]
    proto: Option<Proto>,
    #[serde(default)]
    probe: Option<ProbeBody>,
    #[serde(default)]
    verdict: Option<VerdictBody>,
    #[serde(default)]
    outcome: Option<OutcomeBody>,
    #[serde(default)]
    vouch: Option<VouchBody>,
    #[serde(default)]
    stats: Option<StatsBody>,
}

/// Of a line that does not read as ours, only its type: another tool's events are not malformed.
#[derive(Deserialize)]
struct TypeOnly<'a> {
    #[serde(borrow)]
    event_type: Cow<'a, str>,
}

impl Record {
    /// Reads one line, with or without its newline.
    ///
    /// # Errors
    /// [`Malformed`], in words for whoever wrote the line.
    pub fn parse(line: &str) -> Result<Self, Malformed> {
        let read: ReadLine<'_> = match serde_json::from_str(line) {
            Ok(read) => read,
            Err(error) => return foreign(line).ok_or_else(|| Malformed::Json(located(line, &error))),
        };
        let common = Common {
            timestamp: read.timestamp,
            host: read.host,
            src_ip: read.src_ip,
            src_port: read.src_port,
            dest_ip: read.dest_ip,
            dest_port: read.dest_port,
            proto: read.proto,
        };
        match &*read.event_type {
            "probe" if common.src_ip.is_none() => Err(Malformed::Lacks("probe", "src_ip")),
            "probe" => {
                let body = read.probe.ok_or(Malformed::Lacks("probe", "probe"))?;
                Ok(Record::Probe(Probe { common, body }))
            }
            "verdict" => {
                let body = read.verdict.ok_or(Malformed::Lacks("verdict", "verdict"))?;
                Ok(Record::Verdict(Verdict { common, body }))
            }
            "outcome" => {
                let body = read.outcome.ok_or(Malformed::Lacks("outcome", "outcome"))?;
                Ok(Record::Outcome(Outcome { common, body }))
            }
            "vouch" if common.src_ip.is_none() => Err(Malformed::Lacks("vouch", "src_ip")),
            "vouch" => {
                let body = read.vouch.ok_or(Malformed::Lacks("vouch", "vouch"))?;
                Ok(Record::Vouch(Vouch { common, body }))
            }
            "stats" if read.stats.is_some() => {
                let body = read.stats.unwrap_or_default();
                Ok(Record::Stats(Stats { common, body }))
            }
            other => Ok(Record::Other(other.to_owned())),
        }
    }

    /// What records have in common; `None` of an event of another tool.
    fn common(&self) -> Option<&Common> {
        match self {
            Record::Probe(Probe { common, .. })
            | Record::Verdict(Verdict { common, .. })
            | Record::Outcome(Outcome { common, .. })
            | Record::Vouch(Vouch { common, .. })
            | Record::Stats(Stats { common, .. }) => Some(common),
            Record::Other(_) => None,
        }
    }

    /// When it was written; `None` of an event of another tool.
    #[must_use]
    pub fn timestamp(&self) -> Option<Timestamp> {
        Some(self.common()?.timestamp)
    }

    /// Whom it is about: the scope of a verdict or an outcome, the source of a probe or a vouch.
    #[must_use]
    pub fn scope(&self) -> Option<Prefix> {
        match self {
            Record::Verdict(verdict) => Some(verdict.body.scope),
            Record::Outcome(outcome) => Some(outcome.body.scope),
            Record::Probe(_) | Record::Vouch(_) => self.common()?.src_ip.map(Prefix::host),
            Record::Stats(_) | Record::Other(_) => None,
        }
    }
}

/// What a line is that did not read as ours: an event of another tool, or nothing.
fn foreign(line: &str) -> Option<Record> {
    let read: TypeOnly<'_> = serde_json::from_str(line).ok()?;
    let ours = matches!(&*read.event_type, "probe" | "verdict" | "outcome" | "vouch");
    (!ours).then(|| Record::Other(read.event_type.into_owned()))
}

/// What is wrong with a line, and in which field, for which it is read once more: to keep track of the fields takes time, which
/// lines without a mistake are to have.
fn located(line: &str, error: &serde_json::Error) -> String {
    let mut json = serde_json::Deserializer::from_str(line);
    let read: Result<ReadLine<'_>, _> = serde_path_to_error::deserialize(&mut json);
    read.map_or_else(|located| located.to_string(), |_| error.to_string())
}

#[cfg(test)]
mod tests;
