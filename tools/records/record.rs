//! One line of the stream: which record it is, read from JSON and written to it.
//!
//! Reading is lenient: unknown fields and unknown event types pass. What is malformed is an error that names the
//! place; whoever reads counts it and goes on.

use std::borrow::Cow;
use std::io;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::address::read_addr;
use crate::{
    MAX_LINE, Outcome, OutcomeBody, Probe, ProbeBody, Proto, Timestamp, Verdict, VerdictBody, Vouch,
    VouchBody,
};

/// A line of the stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// From a sensor.
    Probe(Probe),
    /// From the judge.
    Verdict(Verdict),
    /// From the blocker.
    Outcome(Outcome),
    /// From a script, or psentry-parse.
    Vouch(Vouch),
    /// Well-formed, and of a type that is not ours.
    Other(String),
}

/// The fields that all records share, named as Suricata's EVE JSON names them.
#[derive(Clone, Debug, PartialEq)]
pub struct Common {
    /// When.
    pub timestamp: Timestamp,
    /// On which machine.
    pub host: Option<String>,
    /// From which address.
    pub src_ip: Option<IpAddr>,
    /// From which port.
    pub src_port: Option<u16>,
    /// To which address.
    pub dest_ip: Option<IpAddr>,
    /// To which port.
    pub dest_port: Option<u16>,
    /// By which transport.
    pub proto: Option<Proto>,
}

impl Common {
    /// Nothing but a time.
    #[must_use]
    pub fn at(timestamp: Timestamp) -> Self {
        Common {
            timestamp,
            host: None,
            src_ip: None,
            src_port: None,
            dest_ip: None,
            dest_port: None,
            proto: None,
        }
    }
}

/// Why a line is no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Longer than a pipe carries in one piece.
    #[error("it is longer than {MAX_LINE} bytes")]
    Oversized,
    /// Not text.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// Not JSON, or a field of the wrong type.
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
}

/// Of a line that does not read as ours, only its type: another tool's events are not malformed.
#[derive(Deserialize)]
struct TypeOnly<'a> {
    #[serde(borrow)]
    event_type: Cow<'a, str>,
}

/// A line as it is written: always in this order.
#[derive(Serialize)]
struct WriteLine<'a> {
    timestamp: Timestamp,
    event_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    src_ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    src_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dest_ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dest_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proto: Option<Proto>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probe: Option<&'a ProbeBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<&'a VerdictBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'a OutcomeBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vouch: Option<&'a VouchBody>,
}

impl Record {
    /// Reads one line, with or without its newline.
    ///
    /// # Errors
    /// [`Malformed`], in words for whoever wrote the line.
    pub fn parse(line: &str) -> Result<Self, Malformed> {
        let read: ReadLine<'_> = match serde_json::from_str(line) {
            Ok(read) => read,
            Err(error) => return foreign(line).ok_or_else(|| Malformed::Json(error.to_string())),
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
            other => Ok(Record::Other(other.to_owned())),
        }
    }

    /// Writes one line, newline included, into `line`, which it clears first. Never longer than [`MAX_LINE`]:
    /// the longest texts are shortened until it fits, long lists too.
    ///
    /// # Errors
    /// `Record::Other` cannot be written: what it held was not kept.
    pub fn encode(&self, line: &mut Vec<u8>) -> io::Result<()> {
        self.write_to(line)?;
        if line.len() <= MAX_LINE {
            return Ok(());
        }
        let mut shorter = self.clone();
        while line.len() > MAX_LINE {
            if !shorter.shorten(line.len() - MAX_LINE) {
                return Err(io::Error::other("a record does not fit into one line"));
            }
            shorter.write_to(line)?;
        }
        Ok(())
    }

    fn write_to(&self, line: &mut Vec<u8>) -> io::Result<()> {
        let (event_type, common) = match self {
            Record::Probe(probe) => ("probe", &probe.common),
            Record::Verdict(verdict) => ("verdict", &verdict.common),
            Record::Outcome(outcome) => ("outcome", &outcome.common),
            Record::Vouch(vouch) => ("vouch", &vouch.common),
            Record::Other(_) => {
                return Err(io::Error::other("a record of another tool cannot be written again"));
            }
        };
        line.clear();
        serde_json::to_writer(
            &mut *line,
            &WriteLine {
                timestamp: common.timestamp,
                event_type,
                host: common.host.as_deref(),
                src_ip: common.src_ip,
                src_port: common.src_port,
                dest_ip: common.dest_ip,
                dest_port: common.dest_port,
                proto: common.proto,
                probe: if let Record::Probe(probe) = self { Some(&probe.body) } else { None },
                verdict: if let Record::Verdict(verdict) = self { Some(&verdict.body) } else { None },
                outcome: if let Record::Outcome(outcome) = self { Some(&outcome.body) } else { None },
                vouch: if let Record::Vouch(vouch) = self { Some(&vouch.body) } else { None },
            },
        )?;
        line.push(b'\n');
        Ok(())
    }

    /// Takes at least one character, and at most `surplus` bytes and the rest of an escape, from the longest text;
    /// says whether there was anything to take.
    fn shorten(&mut self, surplus: usize) -> bool {
        let (common, mut texts) = match self {
            Record::Probe(probe) => {
                let body = &mut probe.body;
                let texts = vec![body.payload.as_mut(), body.sensor.as_mut(), body.signature.as_mut()];
                (&mut probe.common, texts)
            }
            Record::Verdict(verdict) => {
                // A list of ports or kinds is evidence, not the decision: the first hundred tell enough.
                verdict.body.ports.truncate(100);
                verdict.body.kinds.truncate(100);
                (&mut verdict.common, vec![verdict.body.reason.as_mut(), verdict.body.rule.as_mut()])
            }
            Record::Outcome(outcome) => {
                let body = &mut outcome.body;
                let texts = vec![
                    body.error.as_mut(),
                    body.backend.as_mut(),
                    body.reason.as_mut(),
                    body.rule.as_mut(),
                ];
                (&mut outcome.common, texts)
            }
            Record::Vouch(vouch) => {
                (&mut vouch.common, vec![vouch.body.user.as_mut(), vouch.body.method.as_mut()])
            }
            Record::Other(_) => return false,
        };
        texts.push(common.host.as_mut());
        let Some(longest) = texts.into_iter().flatten().max_by_key(|text| text.len()) else { return false };
        // In JSON a byte may take up to six; so a sixth of the surplus is certainly not too much.
        let keep = longest.len().saturating_sub((surplus / 6).max(1));
        let keep = (0..=keep).rev().find(|&at| longest.is_char_boundary(at)).unwrap_or(0);
        let had = longest.len();
        longest.truncate(keep);
        longest.truncate(whole(longest));
        had > keep
    }
}

/// How long `text` is without an escape at its end that was cut; escapes as `u8::escape_ascii` writes them.
fn whole(text: &str) -> usize {
    let mut rest = text;
    while let Some((_, escape)) = rest.split_once('\\') {
        let mut chars = escape.chars();
        if chars.nth(if escape.starts_with('x') { 2 } else { 0 }).is_none() {
            return text.len() - escape.len() - 1;
        }
        rest = chars.as_str();
    }
    text.len()
}

/// What a line is that did not read as ours: an event of another tool, or nothing.
fn foreign(line: &str) -> Option<Record> {
    let read: TypeOnly<'_> = serde_json::from_str(line).ok()?;
    let ours = matches!(&*read.event_type, "probe" | "verdict" | "outcome" | "vouch");
    (!ours).then(|| Record::Other(read.event_type.into_owned()))
}

#[cfg(test)]
mod tests;
