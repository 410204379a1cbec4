//! Who is shut out: the rows of all tools in one list, one for each tool and scope, and in words; and why somebody is not. Pure.

use std::collections::BTreeMap;

use psentry_local_time::{Clock, span};
use psentry_ports::named_ports;
use psentry_records::{Action, Outcome, OutcomeResult, Prefix};
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
        let ports = match &*body.ports {
            [] => String::new(),
            ports => format!(" from {}", named_ports(ports, common.proto)),
        };
        let until =
            body.until.map_or_else(|| ", no end,".into(), |end| format!(" until {}", clock.moment(end)));
        let rule = printable(body.rule.as_deref().unwrap_or("unknown"));
        let spares = if body.handshake == Some(false) { ", but for established connections" } else { "" };
        let reason = some(body.reason.as_ref().map(|why| format!(": {}", printable(why))));
        let block = format!("{ports}{until} by rule {rule}{spares}{reason}");
        match (self.backends.is_empty(), self.failing.join("; ")) {
            (true, failing) => format!("to be blocked{block}, and is not yet: {failing}"),
            (false, failing) if failing.is_empty() => format!("blocked{block}"),
            (false, failing) => format!("blocked by {} only{block}; {failing}", self.backends.join(", ")),
        }
    }
}

/// A line for each row, with the addresses lined up.
pub(crate) fn table(rows: &[Row], touches: &Touches, clock: &Clock) -> String {
    let width = rows.iter().map(|row| row.scope.short().len()).max().unwrap_or(0);
    rows.iter().map(|row| format!("{:<width$}  {}\n", row.scope.short(), row.words(touches, clock))).collect()
}

/// Why nothing shuts somebody out, as far as the log knows, a sentence a reason.
pub(crate) fn reasons(asked: Prefix, observes: bool, known: &Known, clock: &Clock) -> Vec<String> {
    let mut reasons = Vec::new();
    if let Some(verdict) = &known.verdict {
        let until = verdict.until();
        let is_over = until.is_some_and(|until| until <= clock.now);
        let end = until.map_or_else(|| ", no end,".into(), |until| format!(" until {}", clock.moment(until)));
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
        reasons.extend(known.released.map(|at| format!("it was released at {}", clock.moment(at))));
        if observes && verdict.body.action != Action::Watch {
            reasons.push("psentry observes by now, and blocks nobody who scans".to_owned());
        }
    } else if observes {
        reasons.push("psentry observes, and shuts out nobody; it would not be blocked".to_owned());
    }
    reasons.extend(
        known.quarantine.map(|(at, secs)| {
            format!("the trap shut it out for {} at {}", span(secs.into()), clock.moment(at))
        }),
    );
    let never = || "the log has no probe of it: it was never seen".to_owned();
    reasons.push(known.touches.values().max().map_or_else(never, |(at, port)| {
        let (count, ago) = (counted(known.probes, "probe", "probes"), clock.ago(*at));
        format!("it touched {port} {ago}, {count} in all; what they weigh: psentry explain {}", asked.addr())
    }));
    reasons
}

#[cfg(test)]
mod tests;
