//! What follows of what was gathered: a finding for each part, with how bad it is. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use psentry_records::Timestamp;
use psentry_stage::panic_file::Order;
use serde::Deserialize;
use serde_json::Value;

use crate::cli::Mode;
use crate::clock::Clock;

/// Each stage writes its counters once a minute: who has not for so long does not work.
const LATE: Duration = Duration::from_secs(180);

/// A stage that was restarted so recently may be about to be restarted again.
const UNSTEADY: Duration = Duration::from_secs(600);

/// The self-test runs once an hour.
const SELFTEST_LATE: Duration = Duration::from_secs(3 * 3600);

/// How bad it is, in Nagios' words; the number is the exit code, and the order that of badness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Ok = 0,
    Warning = 1,
    Critical = 2,
    Unknown = 3,
}

impl Level {
    pub(super) fn name(self) -> &'static str {
        match self {
            Level::Ok => "OK",
            Level::Warning => "WARNING",
            Level::Critical => "CRITICAL",
            Level::Unknown => "UNKNOWN",
        }
    }
}

/// A part of the suite, and how it is.
pub(super) struct Finding {
    pub(super) name: &'static str,
    pub(super) level: Level,
    pub(super) text: String,
}

/// All that bears on it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Gathered {
    /// Whether anything of psentry is here.
    pub(super) installed: bool,
    /// Units by name; none where systemd does not run.
    pub(super) units: BTreeMap<String, Unit>,
    /// How many decoys systemd holds open; absent: it does not run.
    pub(super) decoys: Option<usize>,
    /// The FIFOs that are missing; absent: systemd does not run, and pipes take their place.
    pub(super) missing_fifos: Option<Vec<String>>,
    /// When each stage last wrote its counters.
    pub(super) stats: BTreeMap<String, Timestamp>,
    /// When the newest record was written.
    pub(super) newest: Option<Timestamp>,
    /// Why the log cannot be read.
    pub(super) log_error: Option<String>,
    /// What the blocker and the trap answer on their sockets.
    pub(super) block: Socket,
    pub(super) trap: Socket,
    /// The panic that holds.
    pub(super) panic: Option<Order>,
    /// "observe" or "block", or why that is not known.
    pub(super) mode: String,
    /// When psentry.conf was changed.
    pub(super) conf_changed: Option<Timestamp>,
}

/// A unit of systemd.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Unit {
    pub(super) load: String,
    pub(super) active: String,
    pub(super) sub: String,
    pub(super) result: String,
    pub(super) restarts: u32,
    /// Since when it is active.
    pub(super) since: Option<Timestamp>,
    /// When its process last ended.
    pub(super) ended: Option<Timestamp>,
}

/// A control socket.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Socket {
    /// Why nothing is answered; absent: it answers.
    pub(super) silence: Option<String>,
    /// The lines of the answer.
    pub(super) reports: Vec<Value>,
}

/// The findings, in the order in which records go through the suite.
pub(super) fn findings(gathered: &Gathered, clock: &Clock) -> Vec<Finding> {
    let observes = gathered.mode == Mode::Observe.name();
    let stage = |stage, level| stage_is(gathered, clock, stage, level);
    let finding = |name, (level, text): (Level, String)| Finding { name, level, text };
    let (listen, trap) = (stage("listen", Level::Warning), stage("trap", Level::Warning));
    // Without any sensor nobody is noticed.
    let blind = listen.0 != Level::Ok && trap.0 != Level::Ok;
    let sensor = |(level, text): (Level, String)| (if blind { Level::Critical } else { level }, text);
    vec![
        finding("listen", sensor(also(listen, decoys(gathered)))),
        finding("trap", sensor(also(trap, trap_answers(gathered, observes)))),
        finding("judge", stage("judge", Level::Critical)),
        finding("block", also(stage("block", Level::Critical), blocks(&gathered.block))),
        finding("fifos", fifos(gathered)),
        finding("log", log(gathered, clock)),
        finding("self-test", selftest(gathered, clock)),
        finding("mode", mode(gathered, clock, observes)),
        finding("panic", panic(gathered, clock)),
    ]
}

/// Two findings about one part: the worse one first, and both where both are well.
fn also(first: (Level, String), second: Option<(Level, String)>) -> (Level, String) {
    match second {
        None => first,
        Some(second) if second.0 > first.0 => second,
        Some((Level::Ok, text)) if first.0 == Level::Ok => (Level::Ok, format!("{}, {text}", first.1)),
        Some(_) => first,
    }
}

/// Whether a stage runs and works; `absent` is how bad it is if there is none.
fn stage_is(gathered: &Gathered, clock: &Clock, stage: &str, absent: Level) -> (Level, String) {
    let name = format!("psentry-{stage}");
    let last = gathered.stats.get(stage).copied();
    let is_late = last.is_none_or(|last| clock.now.since(last) > LATE);
    let unit = gathered.units.get(&format!("{name}.service"));
    let Some(unit) = unit.filter(|unit| unit.load != "not-found") else {
        return match last {
            Some(last) if !is_late => {
                (Level::Ok, format!("runs, not as a service; counted {}", clock.ago(last)))
            }
            Some(last) => (Level::Critical, format!("does not run; it last counted {}", clock.ago(last))),
            None => (absent, "is not there".to_owned()),
        };
    };
    let up = unit.since.map(|since| clock.now.since(since));
    let times = unit.restarts;
    match (unit.load.as_str(), unit.active.as_str()) {
        ("masked", _) => {
            (absent, format!("is masked; systemctl unmask {name} && systemctl start psentry.target"))
        }
        (_, "active") if times > 0 && up.is_some_and(|up| up < UNSTEADY) => {
            let level = if times < 5 { Level::Warning } else { Level::Critical };
            (level, format!("restarted {times} times, last {}; journalctl -u {name}", ago(clock, unit.since)))
        }
        (_, "active") if gathered.log_error.is_some() => {
            (Level::Warning, "runs; whether it works the log does not say".to_owned())
        }
        (_, "active") if is_late && up.is_none_or(|up| up > LATE) => {
            let since = last.map_or_else(|| "never".to_owned(), |last| clock.ago(last));
            (
                Level::Critical,
                format!("runs and does not work: its last counters came {since}; journalctl -u {name}"),
            )
        }
        (_, "active") => (Level::Ok, format!("running since {}", since(clock, unit.since))),
        (_, "activating") if unit.sub == "auto-restart" || times > 0 => (
            Level::Critical,
            format!("restarts all the time, {times} times so far ({}); journalctl -u {name}", unit.result),
        ),
        (_, "activating") => (Level::Warning, "is starting".to_owned()),
        (_, "failed") => (Level::Critical, format!("failed ({}); journalctl -u {name}", unit.result)),
        _ => (Level::Critical, "is stopped; systemctl start psentry.target".to_owned()),
    }
}

fn decoys(gathered: &Gathered) -> Option<(Level, String)> {
    Some(match gathered.decoys? {
        0 => (Level::Warning, "no decoy port is open; psentry decoy add PORT".to_owned()),
        1 => (Level::Warning, "1 decoy, which convicts nobody; psentry decoy add PORT".to_owned()),
        count => (Level::Ok, format!("{count} decoys")),
    })
}

fn trap_answers(gathered: &Gathered, observes: bool) -> Option<(Level, String)> {
    if let Some(why) = &gathered.trap.silence {
        return Some((Level::Warning, why.clone()));
    }
    let number = |name: &str| gathered.trap.reports.iter().find_map(|report| report.get(name)?.as_u64());
    let quarantined = number("quarantined")?;
    Some((Level::Ok, if observes { "observes".to_owned() } else { format!("{quarantined} in quarantine") }))
}

/// How much of what is wanted is there, on each backend.
fn blocks(socket: &Socket) -> Option<(Level, String)> {
    if let Some(why) = &socket.silence {
        return Some((Level::Critical, why.clone()));
    }
    let mut found: Vec<(Level, String)> = Vec::new();
    for report in &socket.reports {
        let Some(backend) = report.get("backend").and_then(Value::as_str) else { continue };
        let number = |name: &str| report.get(name).and_then(Value::as_u64);
        let text = |name: &str| report.get(name).and_then(Value::as_str);
        let (wanted, standing) = (number("wanted"), number("standing"));
        let shown = |number: Option<u64>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
        let enforced = format!("{backend} {} of {}", shown(standing), shown(wanted));
        let shadows = report.get("shadowed").and_then(Value::as_array).into_iter().flatten();
        found.extend(
            shadows
                .filter_map(Value::as_str)
                .map(|why| (Level::Critical, format!("{backend} does not block: {why}"))),
        );
        if number("failing") != Some(0) || wanted.is_none() || standing < wanted {
            let why = text("error").map_or_else(String::new, |why| format!(": {why}"));
            found.push((Level::Warning, format!("not all is enforced: {enforced}{why}")));
        }
        let memory = text("memory").map(|why| format!("{backend} does not outlive a reboot: {why}"));
        let unwritten = text("unwritten").map(|why| format!("records are lost: {why}"));
        let full = report.get("full").filter(|full| full["refused"].as_u64() > Some(0));
        let full = full.map(|_| "there is no room for another block (--max-blocks)".to_owned());
        found.extend([memory, unwritten, full].into_iter().flatten().map(|why| (Level::Warning, why)));
        found.push((Level::Ok, format!("{enforced} enforced")));
    }
    let worst = found.iter().map(|(level, _)| *level).max()?;
    let texts: Vec<String> =
        found.into_iter().filter(|(level, _)| *level == worst).map(|(_, text)| text).collect();
    Some((worst, texts.join(", ")))
}

fn fifos(gathered: &Gathered) -> (Level, String) {
    match gathered.missing_fifos.as_deref() {
        None => (Level::Ok, "not used without systemd".to_owned()),
        Some([]) => (Level::Ok, "events and verdicts are there".to_owned()),
        Some(missing) => {
            (Level::Critical, format!("missing: {}; systemctl restart psentry.target", missing.join(", ")))
        }
    }
}

fn log(gathered: &Gathered, clock: &Clock) -> (Level, String) {
    match (&gathered.log_error, gathered.newest) {
        (Some(why), _) => (Level::Critical, why.clone()),
        (None, None) => {
            (Level::Critical, "has no record of this hour; each stage writes one a minute".to_owned())
        }
        (None, Some(newest)) if clock.now.since(newest) > LATE => (
            Level::Critical,
            format!("its newest record came {}; each stage writes one a minute", clock.ago(newest)),
        ),
        (None, Some(newest)) => (Level::Ok, format!("newest record {}", clock.ago(newest))),
    }
}

fn selftest(gathered: &Gathered, clock: &Clock) -> (Level, String) {
    let Some(test) = gathered.units.get("psentry-selftest.service").filter(|unit| unit.load == "loaded")
    else {
        return match gathered.units.is_empty() {
            true => (Level::Ok, "not run without systemd".to_owned()),
            false => (Level::Warning, "is not installed".to_owned()),
        };
    };
    let timer = gathered.units.get("psentry-selftest.timer").is_some_and(|timer| timer.active == "active");
    let ended = ago(clock, test.ended);
    match test.ended {
        _ if test.active == "failed" || !matches!(test.result.as_str(), "success" | "") => {
            (Level::Critical, format!("failed {ended}; journalctl -u psentry-selftest"))
        }
        _ if !timer => (Level::Warning, "is switched off; systemctl start psentry-selftest.timer".to_owned()),
        None => (Level::Ok, "not run yet; it runs once an hour".to_owned()),
        Some(at) if clock.now.since(at) > SELFTEST_LATE => {
            (Level::Warning, format!("last passed {ended}, and should run once an hour"))
        }
        Some(_) => (Level::Ok, format!("passed {ended}")),
    }
}

fn mode(gathered: &Gathered, clock: &Clock, observes: bool) -> (Level, String) {
    let judge = gathered.units.get("psentry-judge.service").filter(|unit| unit.active == "active");
    let began = judge.and_then(|unit| unit.since);
    if let (Some(changed), Some(began)) = (gathered.conf_changed, began)
        && changed > began
    {
        let then = "systemctl daemon-reload && systemctl restart psentry.target";
        return (
            Level::Warning,
            format!("psentry.conf was changed {}, after the start: {then}", clock.ago(changed)),
        );
    }
    if observes {
        let since = began
            .or(gathered.conf_changed)
            .map_or_else(String::new, |began| format!(" since {}", clock.moment(began)));
        return (Level::Ok, format!("observing{since}: nobody is shut out; psentry mode block"));
    }
    let level = if gathered.mode == Mode::Block.name() { Level::Ok } else { Level::Critical };
    (level, if level == Level::Ok { "blocking".to_owned() } else { gathered.mode.clone() })
}

/// What lets everybody in, or some.
fn panic(gathered: &Gathered, clock: &Clock) -> (Level, String) {
    if let Some(order) = &gathered.panic {
        let why = order.reason.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
        let since = clock.moment(order.timestamp);
        return (
            Level::Warning,
            format!(
                "a panic holds since {since}, declared by {}{why}: nobody is shut out; psentry resume",
                order.by
            ),
        );
    }
    if gathered.block.reports.iter().any(|report| report.get("brake").is_some_and(|brake| !brake.is_null())) {
        return (
            Level::Warning,
            "no panic, but the brake holds: what is not proven is not blocked".to_owned(),
        );
    }
    (Level::Ok, "no panic, and no brake holds".to_owned())
}

fn ago(clock: &Clock, moment: Option<Timestamp>) -> String {
    moment.map_or_else(|| "at a time that is not known".to_owned(), |moment| clock.ago(moment))
}

fn since(clock: &Clock, moment: Option<Timestamp>) -> String {
    moment.map_or_else(|| "a time that is not known".to_owned(), |moment| clock.moment(moment))
}
