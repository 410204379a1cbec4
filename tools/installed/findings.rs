//! What follows of what was gathered: a finding for each part of the suite, with how bad it is. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use psentry_local_time::Clock;
use psentry_records::Timestamp;
use psentry_stage::{Exit, counted};
use serde::Deserialize;
use serde_json::Value;

/// Each stage writes its counters once a minute: who has not for so long does not work.
const LATE: Duration = Duration::from_secs(180);

/// A stage that was restarted so recently may be about to be restarted again.
const UNSTEADY: Duration = Duration::from_secs(600);

/// A unit with type exec is active for a moment at each try, too: with many restarts before, that is no state to rely on.
const MOMENT: Duration = Duration::from_secs(10);

/// How many restarts are many.
const MANY: u32 = 5;

/// What may be wrong with a backend beside what is not enforced, by the field of its report.
const COMPLAINTS: [(&str, Exit, &str); 5] = [
    ("shadowed", Critical, "does not block"),
    ("memory", Warning, "outlives no reboot"),
    ("unwritten", Warning, "loses records"),
    ("wrong_settings", Warning, "has a wrong setting"),
    ("full", Warning, "has no room for another block (--max-blocks)"),
];

use Exit::{Critical, No as Warning, Ok, Unknown};

/// A part of the suite, how bad it is by the exit code of a plugin of Nagios, and in words.
pub(crate) type Finding = (&'static str, Exit, String);

/// The same without its name.
type Part = (Exit, String);

/// All that is relevant to it. Where systemd does not run there are no units, decoys and FIFOs.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Gathered {
    /// Whether anything of psentry is here.
    pub(crate) installed: bool,
    /// The properties of units, as systemctl shows them.
    pub(crate) units: BTreeMap<String, BTreeMap<String, String>>,
    /// How many decoys systemd holds open.
    pub(crate) decoys: Option<usize>,
    /// Whether both FIFOs are there.
    pub(crate) fifos: Option<bool>,
    /// When each stage last wrote its counters, and, under the empty name, when the newest other record was written.
    pub(crate) newest: BTreeMap<String, Timestamp>,
    /// What the judge's newest counters say is wrong with its settings; the others answer for themselves.
    pub(crate) wrong_settings: String,
    /// Why the log cannot be read.
    pub(crate) log_error: Option<String>,
    /// What the blocker and the trap say of themselves; a line with nothing but an `error` says why they do not.
    pub(crate) block: Vec<Value>,
    pub(crate) trap: Vec<Value>,
    /// The panic that holds.
    pub(crate) panic: Option<String>,
    /// "observe" or "block", or why that is not known.
    pub(crate) mode: String,
}

/// The findings, in the order in which records go through the suite.
pub(crate) fn findings(gathered: &Gathered, clock: &Clock) -> Vec<Finding> {
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
        ("judge", worse(view.stage("judge", Critical), view.settings())),
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
fn worse(first: Part, second: Option<Part>) -> Part {
    match second {
        Some(second) if second.0 > first.0 => second,
        Some((Ok, text)) if first.0 == Ok => ok(format!("{}, {text}", first.1)),
        _ => first,
    }
}

fn ok(text: impl Into<String>) -> Part {
    (Ok, text.into())
}

fn warning(text: impl Into<String>) -> Part {
    (Warning, text.into())
}

fn critical(text: impl Into<String>) -> Part {
    (Critical, text.into())
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
    fn stage(&self, stage: &str, absent: Exit) -> Part {
        let unit = format!("psentry-{stage}.service");
        let newest = self.gathered.newest.get(stage).copied();
        let lines = [("block", &self.gathered.block), ("trap", &self.gathered.trap)].into_iter();
        let mut lines = lines.filter(|(name, _)| *name == stage).flat_map(|(_, lines)| lines);
        let answers = lines.any(|line| line.as_object().is_some_and(|line| !line.keys().eq(["error"])));
        // Without the log it is not known.
        let is_late = self.gathered.log_error.is_none() && self.is_older(newest, LATE);
        let counts = format!("counted {}", self.ago(newest));
        let up = self.moment(&unit, "ActiveEnterTimestamp");
        let restarts: u32 = self.property(&unit, "NRestarts").parse().unwrap_or(0);
        let see = format!("; journalctl -u psentry-{stage}");
        let result = self.property(&unit, "Result");
        let all_the_time = format!("is restarted all the time, {restarts} times{see}");
        match (self.property(&unit, "LoadState"), self.property(&unit, "ActiveState")) {
            ("" | "not-found", _) if newest.is_none() && !answers => (absent, "is not there".to_owned()),
            ("" | "not-found", _) if is_late && newest.is_some() => {
                critical(format!("is gone: it last {counts}"))
            }
            ("" | "not-found", _) => ok(format!("runs without a unit, {counts}")),
            ("masked", _) => (absent, format!("is masked; systemctl unmask psentry-{stage}")),
            (_, "active") if restarts >= MANY && !self.is_older(up, MOMENT) => critical(all_the_time),
            (_, "active") if restarts > 0 && !self.is_older(up, UNSTEADY) => {
                let times = counted(restarts.into(), "time", "times");
                let text = format!("was restarted {times}, the last {}{see}", self.ago(up));
                if restarts < MANY { warning(text) } else { critical(text) }
            }
            (_, "active") if is_late && self.is_older(up, LATE) => {
                critical(format!("runs and does not work: it last {counts}{see}"))
            }
            (_, "active") => ok(format!("started {}", self.ago(up))),
            (_, "activating") if restarts == 0 => warning("is starting"),
            (_, "activating") => critical(all_the_time),
            (_, "failed") => critical(format!("has failed ({result}){see}")),
            _ => critical("is stopped; systemctl start psentry.target"),
        }
    }

    /// Settings of the judge that are wrong, so that their last good copies count.
    fn settings(&self) -> Option<Part> {
        let wrong = &*self.gathered.wrong_settings;
        (!wrong.is_empty()).then(|| warning(wrong))
    }

    fn decoys(&self) -> Option<Part> {
        let count = self.gathered.decoys?;
        let few = || warning(format!("{count} decoys convict nobody; psentry decoy add PORT"));
        Some(if count < 2 { few() } else { ok(format!("{count} decoys")) })
    }

    fn trap(&self) -> Option<Part> {
        let lines = &self.gathered.trap;
        let error = lines.iter().find_map(|line| line.get("error")?.as_str()).map(warning);
        let quarantined = lines.iter().find_map(|line| line.get("quarantined")?.as_u64());
        error.or(quarantined.map(|count| ok(format!("{count} in quarantine"))))
    }

    /// How much of what is wanted is there, on each backend, and what else is wrong with it.
    fn blocks(&self) -> Option<Part> {
        let mut all = Vec::new();
        for line in &self.gathered.block {
            let text = |name: &str| line.get(name).and_then(Value::as_str);
            let Some(backend) = text("backend") else {
                all.extend(text("error").map(critical));
                continue;
            };
            let number = |name: &str| line.get(name).and_then(Value::as_u64);
            let (wanted, standing) = (number("wanted"), number("standing"));
            let shown = |count: Option<u64>| count.map_or_else(|| "?".to_owned(), |count| count.to_string());
            let enforced = format!("{backend} {} of {} enforced", shown(standing), shown(wanted));
            if number("failing") != Some(0) || wanted.is_none() || standing < wanted {
                all.push(warning(format!("{enforced}: {}", text("error").unwrap_or("not all yet"))));
            }
            let wrong =
                COMPLAINTS.iter().filter_map(|(name, level, what)| Some((*level, what, line.get(name)?)));
            all.extend(wrong.map(|(level, what, why)| (level, format!("{backend} {what}: {why}"))));
            all.push(ok(enforced));
        }
        let worst = all.iter().map(|(level, _)| *level).max()?;
        let texts = all.into_iter().filter(|(level, _)| *level == worst).map(|(_, text)| text);
        Some((worst, texts.collect::<Vec<_>>().join(", ")))
    }

    fn fifos(&self) -> Part {
        match self.gathered.fifos {
            None => ok("not used without systemd"),
            Some(true) => ok("events and verdicts"),
            Some(false) => critical(
                "one in /run/psentry is missing; systemctl restart psentry-events.socket psentry-verdicts.socket psentry.target",
            ),
        }
    }

    fn log(&self) -> Part {
        let newest = self.gathered.newest.values().max().copied();
        let text = format!("newest record {}", self.ago(newest));
        match &self.gathered.log_error {
            Some(error) => critical(error),
            None if self.is_older(newest, LATE) => critical(text + "; each stage writes one a minute"),
            None => ok(text),
        }
    }

    fn selftest(&self) -> Part {
        let unit = "psentry-selftest.service";
        let ended = self.moment(unit, "ExecMainExitTimestamp");
        let runs = self.property("psentry-selftest.timer", "ActiveState") == "active";
        match (self.property(unit, "LoadState"), self.property(unit, "Result")) {
            _ if self.gathered.units.is_empty() => ok("not run without systemd"),
            ("loaded", "success") if !runs => warning("is not run; systemctl start psentry-selftest.timer"),
            ("loaded", "success") if ended.is_none() => {
                ok("not run by its timer yet, which does so once an hour")
            }
            ("loaded", "success") => ok(format!("passed {}", self.ago(ended))),
            ("loaded", _) => critical(format!("failed {}; journalctl -u psentry-selftest", self.ago(ended))),
            _ => warning("is not installed"),
        }
    }

    fn mode(&self) -> Part {
        let began = self.moment("psentry-judge.service", "ActiveEnterTimestamp");
        let since = began.map_or_else(String::new, |began| format!(" since {}", self.clock.moment(began)));
        match self.gathered.mode.as_str() {
            "observe" => {
                ok(format!("observing{since}: nobody new is blocked; to have it block: psentry mode block"))
            }
            "block" => ok("blocking"),
            error => critical(error),
        }
    }

    /// What lets everybody in, or some.
    fn panic(&self) -> Part {
        match &self.gathered.panic {
            Some(panic) => warning(format!("{panic}: nobody is shut out; to end it: psentry resume")),
            None if self.gathered.block.iter().any(|line| line.get("brake").is_some()) => {
                warning("none, but the brake holds: what is not proven is not blocked")
            }
            None => ok("none, and no brake holds"),
        }
    }
}

#[cfg(test)]
mod tests;
