//! A record as a line of text. Pure: no clock, no terminal; colours are only named here, as the tone of a line.

use std::net::IpAddr;
use std::time::Duration;

use psentry_local_time::Zone;
use psentry_records::{
    Action, Class, Common, Kind, Outcome, OutcomeResult, Probe, Proto, Record, Verdict, Vouch,
};
use psentry_stage::printable;

/// The parts of a line.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// The date in the chosen time zone, as 2026-11-22.
    pub day: String,
    /// The time of day in that zone, as 15:04:05 CET.
    pub time: String,
    /// What kind of record it is, in one word: "probe", "blocked", ...
    pub label: &'static str,
    /// Which colour suits it.
    pub tone: Tone,
    /// Who, what and why; printable ASCII.
    pub text: String,
}

/// What a line is to its reader; a colour on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// A verdict, which changes nothing yet.
    Plain,
    /// A probe.
    Notice,
    /// A block.
    Strong,
    /// The end of a block, or a login.
    Relief,
    /// A verdict that was refused, or failed.
    Alarm,
}

/// The line of a record; `None` for counters and for the records of other tools.
#[must_use]
pub fn render(record: &Record, zone: &Zone) -> Option<Line> {
    let (common, (label, tone, text)) = match record {
        Record::Probe(probe) => (&probe.common, probe_text(probe)),
        Record::Verdict(verdict) => (&verdict.common, verdict_text(verdict)),
        Record::Outcome(outcome) => (&outcome.common, outcome_text(outcome, zone)),
        Record::Vouch(vouch) => (&vouch.common, vouch_text(vouch)),
        Record::Stats(_) | Record::Other(_) => return None,
    };
    Some(Line {
        day: zone.day(common.timestamp),
        time: zone.time(common.timestamp),
        label,
        tone,
        text: printable(&text),
    })
}

fn probe_text(probe: &Probe) -> (&'static str, Tone, String) {
    let mut text = format!("{} touched {}", source(&probe.common), port(&probe.common));
    if probe.body.kind != Kind::Connect && probe.body.kind != Kind::Udp {
        text.push_str(&format!(" ({})", probe.body.kind.name()));
    }
    if probe.body.count > 1 {
        text.push_str(&format!(" {} times", probe.body.count));
    }
    match probe.body.signature.as_deref() {
        Some("raw") => text.push_str(" with packets of its own making"),
        Some(scanner) => text.push_str(&format!(" with the signature of {scanner}")),
        None => {}
    }
    if probe.body.handshake && probe.body.cookie {
        text.push_str(" (proven by a SYN cookie only)");
    }
    match (probe.body.veiled, probe.body.class) {
        (true, _) => text.push_str(", behind the veil, and not again"),
        (false, Some(Class::Stray)) => text.push_str(", a stray"),
        (false, _) if probe.body.hidden => text.push_str(", hidden from it"),
        (false, _) => {}
    }
    if let Some(secs) = probe.body.quarantine {
        text.push_str(&format!(
            " and is shut out for {}",
            humantime::format_duration(Duration::from_secs(secs.into()))
        ));
    }
    if let Some(payload) = &probe.body.payload {
        text.push_str(&format!(" and said \"{payload}\""));
    }
    ("probe", Tone::Notice, text)
}

fn verdict_text(verdict: &Verdict) -> (&'static str, Tone, String) {
    let body = &verdict.body;
    let mut text = format!("{} {}", body.action.name(), body.scope);
    match (body.action, body.duration) {
        (Action::Block | Action::Watch, Some(secs)) => {
            text.push_str(&format!(" for {}", humantime::format_duration(Duration::from_secs(secs))));
        }
        (Action::Block, None) => text.push_str(", no end"),
        _ => {}
    }
    if let Some(reason) = &body.reason {
        text.push_str(&format!(": {reason}"));
    }
    ("verdict", Tone::Plain, text)
}

fn outcome_text(outcome: &Outcome, zone: &Zone) -> (&'static str, Tone, String) {
    let body = &outcome.body;
    let (label, tone) = match (body.result, body.action) {
        (OutcomeResult::Applied | OutcomeResult::Already, Action::Unblock) => ("free", Tone::Relief),
        (OutcomeResult::Applied | OutcomeResult::Already, _) => ("blocked", Tone::Strong),
        (OutcomeResult::Released | OutcomeResult::Expired, _) => ("free", Tone::Relief),
        (OutcomeResult::Refused, _) => ("refused", Tone::Alarm),
        (OutcomeResult::Failed, _) => ("failed", Tone::Alarm),
    };
    let mut text = match (body.scope.len(), body.scope.addr()) {
        (0, IpAddr::V4(_)) => "everybody of IPv4".to_owned(),
        (0, IpAddr::V6(_)) => "everybody of IPv6".to_owned(),
        _ => body.scope.to_string(),
    };
    if let Some(backend) = &body.backend {
        text.push_str(&format!(" by {backend}"));
    }
    if !body.ports.is_empty() {
        let ports: Vec<String> = body.ports.iter().map(u16::to_string).collect();
        let proto =
            outcome.common.proto.map_or_else(String::new, |p| format!("/{}", p.name().to_lowercase()));
        text.push_str(&format!(" from {}{proto}", ports.join(",")));
    }
    match (body.result, body.until) {
        (OutcomeResult::Applied, Some(until)) => {
            text.push_str(&format!(" until {}", zone.near(until, outcome.common.timestamp)));
        }
        (OutcomeResult::Already, Some(until)) => {
            text.push_str(&format!(" already, until {}", zone.near(until, outcome.common.timestamp)));
        }
        (OutcomeResult::Applied, None) if body.action == Action::Block => text.push_str(", no end"),
        (OutcomeResult::Already, None) if body.action == Action::Block => text.push_str(" already, no end"),
        (OutcomeResult::Already, None) => text.push_str(" already"),
        (OutcomeResult::Expired, _) => text.push_str(": its time is over"),
        (OutcomeResult::Released, _) => text.push_str(": released"),
        _ => {}
    }
    // Of a block that is listed the reason is the verdict's, and the line would be too long.
    if let Some(why) = body.error.as_ref().or(body.reason.as_ref().filter(|_| body.since.is_none())) {
        text.push_str(&format!(": {why}"));
    }
    (label, tone, text)
}

fn vouch_text(vouch: &Vouch) -> (&'static str, Tone, String) {
    let mut text = format!(
        "{} logged in from {}",
        vouch.body.user.as_deref().unwrap_or("somebody"),
        source(&vouch.common)
    );
    if let Some(method) = &vouch.body.method {
        text.push_str(&format!(" by {method}"));
    }
    ("vouch", Tone::Relief, text)
}

fn source(common: &Common) -> String {
    common.src_ip.map_or_else(|| "somebody".to_owned(), |addr| addr.to_string())
}

/// What was touched, as `23/tcp`.
#[must_use]
pub fn port(common: &Common) -> String {
    match (common.dest_port, common.proto) {
        (Some(port), None | Some(Proto::Other)) => format!("port {port}"),
        (Some(port), Some(proto)) => format!("{port}/{}", proto.name().to_ascii_lowercase()),
        (None, Some(Proto::Number(number))) => format!("protocol {number}"),
        (None, Some(proto)) => proto.name().to_owned(),
        (None, None) => "a port".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(line: &str) -> String {
        let line = render(&Record::parse(line).unwrap(), &Zone::new(true)).unwrap();
        format!("{} {} {}", line.time, line.label, line.text)
    }

    #[test]
    fn records_are_rendered_in_words() {
        for (line, want) in [
            (
                r#"{"timestamp":"2026-11-22T15:04:05Z","event_type":"probe","src_ip":"192.0.2.7","dest_port":23,"proto":"TCP","probe":{"kind":"connect","payload":"GET /\\r\\n"}}"#,
                r#"15:04:05 UTC probe 192.0.2.7 touched 23/tcp and said "GET /\r\n""#,
            ),
            (
                r#"{"timestamp":"2026-11-22T15:04:05Z","event_type":"probe","src_ip":"192.0.2.7","dest_port":22,"proto":"TCP","probe":{"kind":"syn","class":"stray","veiled":true}}"#,
                "15:04:05 UTC probe 192.0.2.7 touched 22/tcp (syn), behind the veil, and not again",
            ),
            (
                r#"{"timestamp":"2026-11-22T15:04:05Z","event_type":"probe","src_ip":"192.0.2.7","dest_port":23,"proto":"TCP","probe":{"kind":"syn","count":3,"signature":"nmap"}}"#,
                "15:04:05 UTC probe 192.0.2.7 touched 23/tcp (syn) 3 times with the signature of nmap",
            ),
            (
                r#"{"timestamp":"2026-11-22T15:04:05Z","event_type":"probe","src_ip":"192.0.2.7","dest_port":23,"proto":"TCP","probe":{"kind":"connect","handshake":true,"cookie":true,"signature":"raw"}}"#,
                "15:04:05 UTC probe 192.0.2.7 touched 23/tcp with packets of its own making (proven by a SYN cookie only)",
            ),
            (
                r#"{"timestamp":"2026-11-22T15:04:05Z","event_type":"probe","src_ip":"192.0.2.7","dest_port":445,"proto":"TCP","probe":{"kind":"syn","class":"probe","quarantine":90}}"#,
                "15:04:05 UTC probe 192.0.2.7 touched 445/tcp (syn) and is shut out for 1m 30s",
            ),
            (
                r#"{"timestamp":"2026-11-22T15:04:05Z","event_type":"probe","src_ip":"192.0.2.7","dest_port":22,"proto":"TCP","probe":{"kind":"syn","class":"probe","hidden":true,"quarantine":30}}"#,
                "15:04:05 UTC probe 192.0.2.7 touched 22/tcp (syn), hidden from it and is shut out for 30s",
            ),
            (
                r#"{"timestamp":"2026-11-22T15:04:05Z","event_type":"probe","src_ip":"192.0.2.7","dest_port":443,"proto":"TCP","probe":{"kind":"syn","class":"stray"}}"#,
                "15:04:05 UTC probe 192.0.2.7 touched 443/tcp (syn), a stray",
            ),
            (
                r#"{"timestamp":"2026-11-22T15:04:05Z","event_type":"verdict","verdict":{"action":"block","scope":"192.0.2.7/32","duration":5400,"reason":"It scanned."}}"#,
                "15:04:05 UTC verdict block 192.0.2.7/32 for 1h 30m: It scanned.",
            ),
            (
                r#"{"timestamp":"2026-11-22T15:04:05Z","event_type":"verdict","verdict":{"action":"block","scope":"192.0.2.7/32","reason":"It scanned."}}"#,
                "15:04:05 UTC verdict block 192.0.2.7/32, no end: It scanned.",
            ),
            (
                r#"{"timestamp":"2026-11-22T15:04:05Z","event_type":"outcome","outcome":{"action":"block","scope":"192.0.2.7","backend":"nft","result":"applied"}}"#,
                "15:04:05 UTC blocked 192.0.2.7/32 by nft, no end",
            ),
            (
                r#"{"timestamp":"2026-11-22T15:04:05Z","event_type":"outcome","outcome":{"action":"block","scope":"2001:db8::/64","backend":"nft","result":"applied","until":"2026-11-22T16:04:05Z"}}"#,
                "15:04:05 UTC blocked 2001:db8::/64 by nft until 16:04:05 UTC",
            ),
            (
                r#"{"timestamp":"2026-11-22T15:04:05Z","event_type":"outcome","proto":"TCP","outcome":{"action":"block","scope":"192.0.2.7","backend":"nft","result":"already","ports":[22,53]}}"#,
                "15:04:05 UTC blocked 192.0.2.7/32 by nft from 22,53/tcp already, no end",
            ),
            (
                r#"{"timestamp":"2026-11-22T15:04:05Z","event_type":"outcome","outcome":{"action":"block","scope":"192.0.2.1","result":"refused","error":"It is the gateway."}}"#,
                "15:04:05 UTC refused 192.0.2.1/32: It is the gateway.",
            ),
        ] {
            assert_eq!(rendered(line), want);
        }
    }

    #[test]
    fn nothing_from_outside_reaches_the_terminal_raw() {
        let line = "{\"timestamp\":\"2026-11-22T15:04:05Z\",\"event_type\":\"probe\",\"src_ip\":\"192.0.2.7\",\
                    \"probe\":{\"payload\":\"\\u001b[2J\\u202e\\u009b\\u0007\"}}";
        let text = rendered(line);
        assert!(text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '), "{text}");
    }
}
