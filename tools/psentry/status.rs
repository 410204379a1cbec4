//! `status`: whether all of it is well, in ten lines for people, in one object for programs, and as an exit code of Nagios.
//! What is the case is gathered here; what follows of it is in `findings.rs`, which is pure.

mod findings;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::time::Duration;

use psentry_control::Question;
use psentry_records::Record;
use psentry_stage::panic_file::{Order, PanicFile};
use psentry_stage::{Exit, printable};
use serde_json::{Map, Value, json};

use self::findings::{Finding, Gathered, findings};
use crate::installed::{Answer, has_systemd, systemctl};
use crate::run::{Context, print};
use crate::{Error, history, settings};

/// Of how long ago records are read.
const RECENT: Duration = Duration::from_secs(3600);

/// What is asked of systemd.
const SHOW: &str = "show --timestamp=unix \
    -p Id,LoadState,ActiveState,Result,NRestarts,ActiveEnterTimestamp,ExecMainExitTimestamp \
    psentry-listen.service psentry-trap.service psentry-judge.service psentry-block.service \
    psentry-selftest.service psentry-selftest.timer";

/// Prints it. It is an error when anything is not well.
pub(crate) fn status(context: &Context) -> Result<(), Error> {
    let findings = findings(&gather(context)?, &context.clock);
    let worst = findings.iter().map(|(_, level, _)| *level).max().unwrap_or(Exit::Unknown);
    let part =
        |(name, level, text): &Finding| (name.to_string(), json!({ "status": word(*level), "text": text }));
    let parts: Map<String, Value> = findings.iter().map(part).collect();
    let object = || json!({ "status": word(worst), "code": worst as u8, "parts": parts }).to_string() + "\n";
    print(&if context.json { object() } else { text(worst, &findings) })?;
    if worst == Exit::Ok { Ok(()) } else { Err(Error(worst, String::new())) }
}

/// The answer in one line, and a line for each finding.
fn text(worst: Exit, findings: &[Finding]) -> String {
    let line = |name, level, text: &str| printable(&format!("{:<8}  {name:<9}  {text}", word(level))) + "\n";
    let bad = findings.iter().filter(|(_, level, _)| *level > Exit::Ok).map(|(name, ..)| *name);
    let bad = bad.collect::<Vec<_>>().join(", ");
    let head = line("psentry", worst, if bad.is_empty() { "all of it is well" } else { &bad });
    head + &findings.iter().map(|(name, level, text)| line(name, *level, text)).collect::<String>()
}

/// In the words of Nagios.
fn word(level: Exit) -> &'static str {
    match level {
        Exit::Ok => "OK",
        Exit::No => "WARNING",
        Exit::Critical => "CRITICAL",
        _ => "UNKNOWN",
    }
}

/// What there is to know: units of systemd, the newest records of the log, the control sockets, the panic file.
fn gather(context: &Context) -> Result<Gathered, Error> {
    let Context { installed, clock, .. } = context;
    let [trap, block] = installed.ask_all(&Question::Status);
    let mut gathered = Gathered {
        installed: installed.log().exists() || installed.etc("psentry.conf").exists() || !block.is_absent,
        // Where none listens for questions, its unit and its counters say how it is.
        trap: if trap.is_absent { Vec::new() } else { lines(trap)? },
        block: lines(block)?,
        panic: PanicFile::default().holds().as_ref().map(Order::declared),
        mode: installed.mode().map_or_else(|why| why.to_string(), settings::name),
        ..Gathered::default()
    };
    if has_systemd() {
        gathered.units = units(&systemctl(SHOW)?);
        let load =
            |unit: &BTreeMap<String, String>| unit.get("LoadState").is_some_and(|load| load == "loaded");
        gathered.installed |= gathered.units.values().any(load);
        gathered.decoys = Some(settings::decoys()?.len());
        let fifos = ["run/psentry/events", "run/psentry/verdicts"].map(|fifo| installed.path(fifo));
        let is_fifo = |path| fs::metadata(path).is_ok_and(|meta| meta.file_type().is_fifo());
        gathered.fifos = Some(fifos.iter().all(is_fifo));
    }
    let newest = &mut gathered.newest;
    let log = history::open(&installed.log(), Some(clock.now.minus(RECENT)));
    let take = |_: &str, record| {
        let at = history::about(&record).0;
        let stage = if let Record::Stats(stats) = record { stats.body.stage } else { String::new() };
        newest.extend(at.map(|at| (stage, at)));
        Ok(())
    };
    let read = log.and_then(|mut log| history::each(&mut log, &[], take));
    gathered.log_error = read.err().map(|error| error.to_string());
    Ok(gathered)
}

/// What a tool answers about itself; that it does not, as an error among the lines.
fn lines(Answer { reply, error, .. }: Answer) -> Result<Vec<Value>, Error> {
    let errors = match error {
        Some(error) if error.0 == Exit::NoPermission => return Err(error),
        error => error.map(|error| error.to_string()).into_iter().chain(reply.errors),
    };
    let lines = reply.lines.iter().filter_map(|line| serde_json::from_str(line).ok());
    Ok(lines.chain(errors.map(|error| json!({ "error": error }))).collect())
}

/// The units that `systemctl show` prints, by name, with an empty line between two.
fn units(text: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    let unit = |part: &str| part.lines().filter_map(pair).collect::<BTreeMap<_, _>>();
    text.split("\n\n").map(unit).filter_map(|unit| Some((unit.get("Id")?.clone(), unit))).collect()
}

#[cfg(test)]
mod tests;
