//! Who is shut out: the rows of all tools in one list, a row for each tool and scope, and in words. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use psentry_records::{Outcome, OutcomeResult, Prefix, Proto, Timestamp};
use psentry_stage::printable;

use crate::clock::Clock;
use crate::tools::Tool;

/// What shuts somebody out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) tool: Tool,
    pub(crate) scope: Prefix,
    until: Option<Timestamp>,
    rule: Option<String>,
    reason: Option<String>,
    ports: Vec<String>,
    /// No handshake proves it, and so established connections go on.
    unproven: bool,
    /// Which backends do it, and which should and do not, with the reason.
    backends: Vec<String>,
    failing: Vec<String>,
}

/// The latest touch of a source.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Touch {
    pub(crate) at: Timestamp,
    pub(crate) port: String,
}

/// The latest touch of each source, by address.
pub(crate) type Touches = BTreeMap<IpAddr, Touch>;

/// The rows of what the tools answered, sorted by address; what several backends of one tool do is one row.
pub(crate) fn merged(outcomes: impl IntoIterator<Item = (Tool, Outcome)>) -> Vec<Row> {
    let mut rows: BTreeMap<(Prefix, Tool, Vec<String>), Row> = BTreeMap::new();
    for (tool, Outcome { common, body }) in outcomes {
        let ports: Vec<String> = body.ports.iter().map(|port| port_name(*port, common.proto)).collect();
        let row = rows.entry((body.scope, tool, ports.clone())).or_insert_with(|| Row {
            tool,
            scope: body.scope,
            until: body.until,
            rule: body.rule,
            reason: body.reason,
            ports,
            unproven: body.handshake == Some(false),
            backends: Vec::new(),
            failing: Vec::new(),
        });
        let backend = printable(body.backend.as_deref().unwrap_or(tool.name()));
        if matches!(body.result, OutcomeResult::Already | OutcomeResult::Applied) {
            row.backends.push(backend);
        } else {
            let why = body.error.as_deref().map_or_else(|| "it is not known why".to_owned(), printable);
            row.failing.push(format!("{backend}: {why}"));
        }
    }
    rows.into_values().collect()
}

impl Row {
    /// Whether anything does it.
    pub(crate) fn is_shut_out(&self) -> bool {
        !self.backends.is_empty()
    }

    /// What shuts it out, for how long and why, as the end of a line.
    pub(crate) fn words(&self, touches: &Touches, clock: &Clock) -> String {
        if self.tool == Tool::Trap {
            let left =
                self.until.map_or_else(|| "no end".to_owned(), |until| format!("{} left", clock.left(until)));
            let touch = self.touch(touches);
            let touched = touch.map_or_else(String::new, |touch| format!(", touched {}", touch.port));
            return format!("trap, {left}{touched}");
        }
        let ports =
            if self.ports.is_empty() { String::new() } else { format!(" from {}", self.ports.join(",")) };
        let until = self
            .until
            .map_or_else(|| ", no end".to_owned(), |until| format!(" until {}", clock.moment(until)));
        let rule = self.rule.as_deref().map_or_else(String::new, |rule| match rule {
            "by-hand" => " by a command".to_owned(),
            rule => format!(" by rule {}", printable(rule)),
        });
        let unproven = if self.unproven { " (unproven: established connections go on)" } else { "" };
        let reason =
            self.reason.as_deref().map_or_else(String::new, |reason| format!(": {}", printable(reason)));
        let block = format!("{ports}{until}{rule}{unproven}{reason}");
        match (self.is_shut_out(), &*self.failing) {
            (true, []) => format!("blocked{block}"),
            (true, failing) => {
                format!("blocked by {} only{block}; not by {}", self.backends.join(", "), failing.join("; "))
            }
            (false, failing) => format!("to be blocked{block}; but not yet: {}", failing.join("; ")),
        }
    }

    /// The latest touch of any address in it.
    pub(crate) fn touch<'a>(&self, touches: &'a Touches) -> Option<&'a Touch> {
        let within = touches.range(self.scope.addr()..=self.scope.last());
        within.map(|(_, touch)| touch).max_by_key(|touch| touch.at)
    }
}

/// As people write a scope: a single address without its length.
pub(crate) fn short(scope: Prefix) -> String {
    if scope.is_host() { scope.addr().to_string() } else { scope.to_string() }
}

/// As people write a port.
pub(crate) fn port_name(port: u16, proto: Option<Proto>) -> String {
    proto.map_or_else(|| port.to_string(), |proto| format!("{port}/{}", proto.name().to_ascii_lowercase()))
}

/// A line for each row, with the addresses lined up.
pub(crate) fn table(rows: &[Row], touches: &Touches, clock: &Clock) -> String {
    let width = rows.iter().map(|row| short(row.scope).len()).max().unwrap_or(0);
    rows.iter().map(|row| format!("{:<width$}  {}\n", short(row.scope), row.words(touches, clock))).collect()
}
