//! A record as a line: always in the same order, and never longer than a line may be.

use std::io;
use std::net::IpAddr;

use serde::Serialize;

use super::Record;
use crate::{MAX_LINE, OutcomeBody, ProbeBody, Proto, StatsBody, Timestamp, VerdictBody, VouchBody};

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
    #[serde(skip_serializing_if = "Option::is_none")]
    stats: Option<&'a StatsBody>,
}

impl Record {
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
            Record::Stats(stats) => ("stats", &stats.common),
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
                stats: if let Record::Stats(stats) = self { Some(&stats.body) } else { None },
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
            Record::Stats(stats) => {
                if stats.body.leave_out_a_network() {
                    return true;
                }
                (&mut stats.common, vec![Some(&mut stats.body.stage)])
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
pub(super) fn whole(text: &str) -> usize {
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
