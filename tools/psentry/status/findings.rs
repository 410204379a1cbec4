//! What follows of what was gathered: a finding for each part of the suite, with how bad it is. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use psentry_records::Timestamp;
use psentry_stage::Exit;
use serde::Deserialize;
use serde_json::Value;

use crate::rows::Clock;

/// Each stage writes its counters once a minute: who has not for so long does not work.
const LATE: Duration = Duration::from_secs(180);

/// A stage that was restarted so recently may be about to be restarted again.
const UNSTEADY: Duration = Duration::from_secs(600);

/// What may be wrong with a backend beside what is not enforced, by the field of its report.
const COMPLAINTS: [(&str, Exit, &str); 4] = [
    ("shadowed", Critical, "does not block"),
    ("memory", Warning, "outlives no reboot"),
    ("unwritten", Warning, "loses records"),
    ("full", Warning, "has no room for another block (--max-blocks)"),
];

use Exit::{Critical, No as Warning, Ok, Unknown};

/// A part of the suite, how bad it is by the exit code of a plugin of Nagios, and in words.
pub(super) type Finding = (&'static str, Exit, String);

/// All that bears on it. Where systemd does not run there are no units, decoys and FIFOs.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Gathered {
    /// Whether anything of psentry is here.
    pub(super) installed: bool,
    /// The properties of units, as systemctl shows them.
    pub(super) units: BTreeMap<String, BTreeMap<String, String>>,
    /// How many decoys systemd holds open.
    pub(super) decoys: Option<usize>,
    /// Whether both FIFOs are there.
    pub(super) fifos: Option<bool>,
    /// When each stage last wrote its counters, and, under the empty name, when the newest other record was written.
    pub(super) newest: BTreeMap<String, Timestamp>,
    /// Why the log cannot be read.
    pub(super) log_error: Option<String>,
    /// What the blocker and the trap say of themselves; a line with nothing but an `error` says why they do not.
    pub(super) block: Vec<Value>,
    pub(super) trap: Vec<Value>,
    /// The panic that holds.
    pub(super) panic: Option<String>,
    /// "observe" or "block", or why that is not known.
    pub(super) mode: String,
    /// When psentry.conf was changed.
    pub(super) conf_changed: Option<Timestamp>,
}

/// The findings, in the order in which records go through the suite.
pub(super) fn findings(gathered: &Gathered, clock: &Clock) -> Vec<Finding> {
    if !gathered.installed {
        return vec![("suite", Unknown, "psentry is not installed here".to_owned())];
    }
    let view = View { gathered, clock };
    let listen = worse(view.stage("listen", Warning), view.decoys());
    let trap = worse(view.stage("trap", Warning), view.trap());
    // Without any sensor nobody is noticed.
    let least = if listen.0 > Ok && trap.0 > Ok { Critical } else { Ok };
    let parts = [
        ("listen", (listen.0.max(least), listen.1)),
        ("trap", (trap.0.max(least), trap.1)),
        ("judge", view.stage("judge", Critical)),
        ("block", worse(view.stage("block", Critical), view.blocks())),
        ("fifos", view.fifos()),
        ("log", view.log()),
        ("self-test", view.selftest()),
        ("mode", view.mode()),
        ("panic", view.panic()),
    ];
    parts.into_iter().map(|(name, (level, text))| (name, level, text)).collect()
}

/// Of two findings about one part the worse one, or both where both are well.
fn worse(first: (Exit, String), second: Option<(Exit, String)>) -> (Exit, String) {
    match second {
        Some(second) if second.0 > first.0 => second,
        Some((Ok, text)) if first.0 == Ok => (Ok, format!("{}, {text}", first.1)),
        _ => first,
    }
}

struct View<'a> {
    gathered: &'a Gathered,
    clock: &'a Clock,
}

impl View<'_> {
    /// A property of a unit; empty where there is no such unit.
    fn property(&self, unit: &str, name: &str) -> &str {
        self.gathered.units.get(unit).and_then(|unit| unit.get(name)).map_or("", String::as_str)
    }

    /// A property that is a moment, as `@1790000000`.
    fn moment(&self, unit: &str, name: &str) -> Option<Timestamp> {
        Timestamp::from_secs(self.property(unit, name).strip_prefix('@')?.parse().ok()?)
    }

    /// Whether that was longer ago, or never.
    fn is_older(&self, moment: Option<Timestamp>, limit: Duration) -> bool {
        moment.is_none_or(|moment| self.clock.now.since(moment) > limit)
    }

    fn ago(&self, moment: Option<Timestamp>) -> String {
        moment.map_or_else(|| "never".to_owned(), |moment| self.clock.ago(moment))
    }

    /// Whether a stage runs and works; `absent` is how bad it is if there is none.
    fn stage(&self, stage: &str, absent: Exit) -> (Exit, String) {
        let unit = format!("psentry-{stage}.service");
        let counted = self.gathered.newest.get(stage).copied();
        // Without the log it is not known.
        let (is_late, counts) = (
            self.gathered.log_error.is_none() && self.is_older(counted, LATE),
            format!("counted {}", self.ago(counted)),
        );
        let up = self.moment(&unit, "ActiveEnterTimestamp");
        let restarts: u32 = self.property(&unit, "NRestarts").parse().unwrap_or(0);
        let (result, see) = (self.property(&unit, "Result"), format!("journalctl -u psentry-{stage}"));
        match (self.property(&unit, "LoadState"), self.property(&unit, "ActiveState")) {
            ("" | "not-found", _) if counted.is_none() => (absent, "is not there".to_owned()),
            ("" | "not-found", _) if is_late => (Critical, format!("is gone: it last {counts}")),
            ("" | "not-found", _) => (Ok, format!("runs without a unit, {counts}")),
            ("masked", _) => (absent, format!("is masked; systemctl unmask psentry-{stage}")),
            (_, "active") if restarts > 0 && !self.is_older(up, UNSTEADY) => {
                let level = if restarts < 5 { Warning } else { Critical };
                (level, format!("restarts: {restarts} times, the last {}; {see}", self.ago(up)))
            }
            (_, "active") if is_late && self.is_older(up, LATE) => {
                (Critical, format!("runs and does not work: it last {counts}; {see}"))
            }
            (_, "active") => {
                (Ok, format!("runs since {}", up.map_or_else(|| "?".to_owned(), |up| self.clock.moment(up))))
            }
            (_, "activating") if restarts == 0 => (Warning, "is starting".to_owned()),
            (_, "activating") => {
                (Critical, format!("restarts all the time, {restarts} times ({result}); {see}"))
            }
            (_, "failed") => (Critical, format!("has failed ({result}); {see}")),
            _ => (Critical, "is stopped; systemctl start psentry.target".to_owned()),
        }
    }

    fn decoys(&self) -> Option<(Exit, String)> {
        let count = self.gathered.decoys?;
        let few = format!("{count} decoys convict nobody; psentry decoy add PORT");
        Some(if count < 2 { (Warning, few) } else { (Ok, format!("{count} decoys")) })
    }

    fn trap(&self) -> Option<(Exit, String)> {
        let error = self.gathered.trap.iter().find_map(|line| line.get("error")?.as_str());
        let quarantined = self.gathered.trap.iter().find_map(|line| line.get("quarantined")?.as_u64());
        let quarantined = quarantined.map(|count| (Ok, format!("{count} in quarantine")));
        error.map(|error| (Warning, error.to_owned())).or(quarantined)
    }

    /// How much of what is wanted is there, on each backend, and what else is wrong with it.
    fn blocks(&self) -> Option<(Exit, String)> {
        let mut all = Vec::new();
        for line in &self.gathered.block {
            let text = |name: &str| line.get(name).and_then(Value::as_str);
            let Some(backend) = text("backend") else {
                all.extend(text("error").map(|error| (Critical, error.to_owned())));
                continue;
            };
            let number = |name: &str| line.get(name).and_then(Value::as_u64);
            let (wanted, standing) = (number("wanted"), number("standing"));
            let shown = |count: Option<u64>| count.map_or_else(|| "?".to_owned(), |count| count.to_string());
            let enforced = format!("{backend} {} of {} enforced", shown(standing), shown(wanted));
            if number("failing") != Some(0) || wanted.is_none() || standing < wanted {
                all.push((Warning, format!("{enforced}: {}", text("error").unwrap_or("not all yet"))));
            }
            let wrong =
                COMPLAINTS.iter().filter_map(|(name, level, what)| Some((*level, what, line.get(name)?)));
            all.extend(wrong.map(|(level, what, why)| (level, format!("{backend} {what}: {why}"))));
            all.push((Ok, enforced));
        }
        let worst = all.iter().map(|(level, _)| *level).max()?;
        let texts = all.into_iter().filter(|(level, _)| *level == worst).map(|(_, text)| text);
        Some((worst, texts.collect::<Vec<_>>().join(", ")))
    }

    fn fifos(&self) -> (Exit, String) {
        match self.gathered.fifos {
            None => (Ok, "not used without systemd".to_owned()),
            Some(true) => (Ok, "events and verdicts".to_owned()),
            Some(false) => {
                (Critical, "one in /run/psentry is missing; systemctl restart psentry.target".to_owned())
            }
        }
    }

    fn log(&self) -> (Exit, String) {
        let newest = self.gathered.newest.values().max().copied();
        let text = format!("newest record {}", self.ago(newest));
        match &self.gathered.log_error {
            Some(error) => (Critical, error.clone()),
            None if self.is_older(newest, LATE) => {
                (Critical, format!("{text}; each stage writes one a minute"))
            }
            None => (Ok, text),
        }
    }

    fn selftest(&self) -> (Exit, String) {
        let unit = "psentry-selftest.service";
        let ended = self.moment(unit, "ExecMainExitTimestamp");
        let timer = self.property("psentry-selftest.timer", "ActiveState");
        match (self.property(unit, "LoadState"), self.property(unit, "Result")) {
            _ if self.gathered.units.is_empty() => (Ok, "not run without systemd".to_owned()),
            ("loaded", "success") if timer != "active" => {
                (Warning, "is not run; systemctl start psentry-selftest.timer".to_owned())
            }
            ("loaded", "success") if ended.is_none() => (Ok, "not run yet, but once an hour".to_owned()),
            ("loaded", "success") => (Ok, format!("passed {}", self.ago(ended))),
            ("loaded", _) => {
                (Critical, format!("failed {}; journalctl -u psentry-selftest", self.ago(ended)))
            }
            _ => (Warning, "is not installed".to_owned()),
        }
    }

    fn mode(&self) -> (Exit, String) {
        let began = self.moment("psentry-judge.service", "ActiveEnterTimestamp");
        let changed = self.gathered.conf_changed;
        let since = began
            .or(changed)
            .map_or_else(String::new, |since| format!(" since {}", self.clock.moment(since)));
        match self.gathered.mode.as_str() {
            "observe" | "block" if began.is_some() && changed > began => {
                let then = "systemctl daemon-reload && systemctl restart psentry.target";
                (
                    Warning,
                    format!("psentry.conf was changed {} and is not in effect; {then}", self.ago(changed)),
                )
            }
            "observe" => (Ok, format!("observing{since}: nobody is shut out; psentry mode block")),
            "block" => (Ok, "blocking".to_owned()),
            error => (Critical, error.to_owned()),
        }
    }

    /// What lets everybody in, or some.
    fn panic(&self) -> (Exit, String) {
        let brakes = self.gathered.block.iter().any(|line| line.get("brake").is_some());
        match &self.gathered.panic {
            Some(panic) => (Warning, format!("{panic}: nobody is shut out; psentry resume")),
            None if brakes => {
                (Warning, "none, but the brake holds: what is not proven is not blocked".to_owned())
            }
            None => (Ok, "none, and no brake holds".to_owned()),
        }
    }
}
