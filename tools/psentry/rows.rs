//! Who is shut out: the rows of all tools in one list, one for each tool and scope, and in words; and why somebody is not. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::tz::TimeZone;
use psentry_records::{Action, Outcome, OutcomeResult, Prefix, Proto, Timestamp};
use psentry_stage::{counted, printable};

use crate::history::{Known, Touches};

/// What shuts somebody out: what one tool does about one scope, on each of its backends.
pub(crate) struct Row {
    pub(crate) scope: Prefix,
    pub(crate) is_trap: bool,
    first: Outcome,
    backends: Vec<String>,
    /// Which backends should do it and do not, with the reason.
    failing: Vec<String>,
}

/// The rows of what the tools answered, sorted by address, the trap's first.
pub(crate) fn merged(outcomes: impl IntoIterator<Item = (&'static str, Outcome)>) -> Vec<Row> {
    let mut rows: BTreeMap<_, Row> = BTreeMap::new();
    for (tool, outcome) in outcomes {
        let (scope, is_trap) = (outcome.body.scope, tool == "psentry-trap");
        let backend = printable(outcome.body.backend.as_deref().unwrap_or(tool));
        let why = printable(outcome.body.error.as_deref().unwrap_or("it is not known why"));
        let does = matches!(outcome.body.result, OutcomeResult::Already | OutcomeResult::Applied);
        let row = rows.entry((scope, !is_trap, outcome.body.ports.clone()));
        let row =
            row.or_insert_with(|| Row { scope, is_trap, first: outcome, backends: vec![], failing: vec![] });
        if does { row.backends.push(backend) } else { row.failing.push(format!("{backend}: {why}")) }
    }
    rows.into_values().collect()
}

impl Row {
    /// What shuts it out, for how long and why, as the end of a line.
    pub(crate) fn words(&self, touches: &Touches, clock: &Clock) -> String {
        let Outcome { common, body } = &self.first;
        let some = |text: Option<String>| text.unwrap_or_default();
        if self.is_trap {
            let left = body.until.map(|until| format!(", {}", clock.left(until)));
            let within = touches.range(self.scope.addr()..=self.scope.last()).map(|(_, touch)| touch);
            let touch = within.max().map(|(_, port)| format!(", touched {port}"));
            return format!("trap{}{}", some(left), some(touch));
        }
        let ports: Vec<String> = body.ports.iter().map(|port| port_name(Some(*port), common.proto)).collect();
        let from = if ports.is_empty() { "" } else { " from " };
        let until =
            body.until.map_or_else(|| ", no end".into(), |end| format!(" until {}", clock.moment(end)));
        let rule = printable(body.rule.as_deref().unwrap_or("unknown"));
        let spares = if body.handshake == Some(false) { ", but for established connections" } else { "" };
        let reason = some(body.reason.as_ref().map(|why| format!(": {}", printable(why))));
        let block = format!("{from}{}{until} by rule {rule}{spares}{reason}", ports.join(","));
        match (self.backends.is_empty(), self.failing.join("; ")) {
            (true, failing) => format!("to be blocked{block}, and is not yet: {failing}"),
            (false, failing) if failing.is_empty() => format!("blocked{block}"),
            (false, failing) => format!("blocked by {} only{block}; {failing}", self.backends.join(", ")),
        }
    }
}

/// A line for each row, with the addresses lined up.
pub(crate) fn table(rows: &[Row], touches: &Touches, clock: &Clock) -> String {
    let width = rows.iter().map(|row| short(row.scope).len()).max().unwrap_or(0);
    rows.iter().map(|row| format!("{:<width$}  {}\n", short(row.scope), row.words(touches, clock))).collect()
}

/// Why nothing shuts somebody out, as far as the log knows, a sentence a reason.
pub(crate) fn reasons(asked: Prefix, observes: bool, known: &Known, clock: &Clock) -> Vec<String> {
    let mut reasons = Vec::new();
    if let Some(verdict) = &known.verdict {
        let until = verdict.until();
        let is_over = until.is_some_and(|until| until <= clock.now);
        let end = until.map_or_else(String::new, |until| format!(" until {}", clock.moment(until)));
        let what = match (verdict.body.action == Action::Watch, is_over) {
            (true, _) if !observes => "the last verdict on it only watched it",
            (true, true) => "psentry observes; it would have been blocked",
            (true, false) => "psentry observes; it would be blocked",
            (false, true) => "it was blocked",
            (false, false) => "the last verdict on it was to block it",
        };
        let rule = printable(verdict.body.rule.as_deref().unwrap_or("unknown"));
        let why = printable(verdict.body.reason.as_deref().unwrap_or("no reason is given"));
        reasons.push(format!("{what}{end} by rule {rule}: {why}"));
    } else if observes {
        reasons.push("psentry observes, and shuts out nobody; it would not be blocked".to_owned());
    }
    let never = || "the log has no probe of it: it was never seen".to_owned();
    reasons.push(known.touches.values().max().map_or_else(never, |(at, port)| {
        let (count, ago) = (counted(known.probes, "probe", "probes"), clock.ago(*at));
        format!("it touched {port} {ago}, {count} in all; what they weigh: psentry explain {}", asked.addr())
    }));
    reasons
}

/// As people write a scope: a single address without its length.
pub(crate) fn short(scope: Prefix) -> String {
    if scope.is_host() { scope.addr().to_string() } else { scope.to_string() }
}

/// As people write a port.
pub(crate) fn port_name(port: Option<u16>, proto: Option<Proto>) -> String {
    let port = port.map_or_else(|| "no port".to_owned(), |port| port.to_string());
    proto.map_or_else(|| port.clone(), |proto| format!("{port}/{}", proto.name().to_ascii_lowercase()))
}

/// What time it is, and the zone of whoever reads.
pub(crate) struct Clock {
    pub(crate) now: Timestamp,
    pub(crate) zone: TimeZone,
}

impl Clock {
    /// A moment as `14:05 CET`, or with its date where it is not of these hours.
    pub(crate) fn moment(&self, moment: Timestamp) -> String {
        let away = moment.since(self.now).max(self.now.since(moment));
        let form = if away < Duration::from_secs(18 * 3600) { "%H:%M %Z" } else { "%Y-%m-%d %H:%M %Z" };
        let moment = jiff::Timestamp::from_microsecond(moment.micros()).unwrap_or_default();
        moment.to_zoned(self.zone.clone()).strftime(form).to_string()
    }

    /// How long ago a moment was.
    pub(crate) fn ago(&self, moment: Timestamp) -> String {
        format!("{} ago", span(self.now.since(moment).as_secs()))
    }

    /// How long it is until a moment; a second that has begun counts.
    fn left(&self, moment: Timestamp) -> String {
        format!("{} left", span(moment.since(self.now).as_micros().div_ceil(1_000_000) as u64))
    }
}

/// A span in its largest unit, rounded down.
fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests;
