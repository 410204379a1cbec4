//! How the suite is: whether all of it is well, in ten lines for people, in one object for programs, and as an exit code of Nagios.
//! What is the case is gathered here; what follows of it is in `findings.rs`, which is pure.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use psentry_control::Question;
use psentry_follow::{FollowError, RecordStep, Records};
use psentry_local_time::Clock;
use psentry_records::{Record, Timestamp};
use psentry_stage::panic_file::PanicFile;
use psentry_stage::{Exit, printable};
use serde_json::{Map, Value, json};

use crate::findings::{Finding, Gathered, findings};
use crate::systemd::unit_properties;
use crate::{Answer, Error, Installed, decoys, has_systemd, systemctl};

/// Of how long ago records are read.
const RECENT: Duration = Duration::from_secs(3600);

/// What is asked of systemd.
const SHOW: &str = "show --timestamp=unix \
    -p Id,LoadState,ActiveState,Result,NRestarts,ActiveEnterTimestamp,ExecMainExitTimestamp \
    psentry-listen.service psentry-trap.service psentry-judge.service psentry-block.service \
    psentry-selftest.service psentry-selftest.timer";

/// How the suite is.
pub struct Status(pub(crate) Vec<Finding>);

impl Status {
    /// How it is now.
    ///
    /// # Errors
    /// A tool may not be asked, or systemd does not answer.
    pub fn of(installed: &Installed, clock: &Clock) -> Result<Self, Error> {
        Ok(Status(findings(&gather(installed, clock)?, clock)))
    }

    /// How bad the worst finding is.
    #[must_use]
    pub fn worst(&self) -> Exit {
        self.0.iter().map(|(_, level, _)| *level).max().unwrap_or(Exit::Unknown)
    }

    /// All of it in one object, for programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let part = |(name, level, text): &Finding| {
            ((*name).to_owned(), json!({ "status": word(*level), "text": text }))
        };
        let parts: Map<String, Value> = self.0.iter().map(part).collect();
        json!({ "status": word(self.worst()), "code": self.worst() as u8, "parts": parts })
    }

    /// The answer in one line, and a line for each finding.
    #[must_use]
    pub fn text(&self) -> String {
        let line =
            |name, level, text: &str| printable(&format!("{:<8}  {name:<9}  {text}", word(level))) + "\n";
        let bad = self.0.iter().filter(|(_, level, _)| *level > Exit::Ok).map(|(name, ..)| *name);
        let bad = bad.collect::<Vec<_>>().join(", ");
        let head = line("psentry", self.worst(), if bad.is_empty() { "all of it is well" } else { &bad });
        head + &self.0.iter().map(|(name, level, text)| line(name, *level, text)).collect::<String>()
    }
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
fn gather(installed: &Installed, clock: &Clock) -> Result<Gathered, Error> {
    let [trap, block] = installed.ask_all(&Question::Status);
    let mut gathered = Gathered {
        installed: installed.log().exists() || installed.etc("psentry.conf").exists() || !block.is_absent,
        trap: lines(trap)?,
        block: lines(block)?,
        panic: PanicFile::default().holds().map(|order| order.declared_at(|moment| clock.moment(moment))),
        mode: installed.mode().map_or_else(|why| why.to_string(), |mode| mode.name().to_owned()),
        ..Gathered::default()
    };
    if has_systemd() {
        gathered.units = unit_properties(&systemctl(SHOW)?);
        let load =
            |unit: &BTreeMap<String, String>| unit.get("LoadState").is_some_and(|load| load == "loaded");
        gathered.installed |= gathered.units.values().any(load);
        gathered.decoys = Some(decoys()?.len());
        let fifos = ["run/psentry/events", "run/psentry/verdicts"].map(|fifo| installed.path(fifo));
        let is_fifo = |path| fs::metadata(path).is_ok_and(|meta| meta.file_type().is_fifo());
        gathered.fifos = Some(fifos.iter().all(is_fifo));
    }
    let log = installed.log();
    let read = read_newest(&log, clock.now.minus(RECENT), &mut gathered);
    gathered.log_error = read.err().map(|error| Error::from(error).to_string());
    Ok(gathered)
}

/// When each stage last wrote its counters, and under the empty name when the newest other record was written.
fn read_newest(log: &Path, since: Timestamp, gathered: &mut Gathered) -> Result<(), FollowError> {
    let mut records = Records::open(log, &[], Some(since))?;
    loop {
        match records.step()? {
            RecordStep::Record(_, record) => {
                let at = record.timestamp();
                let stage = match *record {
                    Record::Stats(stats) => {
                        if stats.body.stage == "judge" {
                            gathered.wrong_settings = stats.body.wrong_settings;
                        }
                        stats.body.stage
                    }
                    _ => String::new(),
                };
                gathered.newest.extend(at.map(|at| (stage, at)));
            }
            RecordStep::Missing(_) => {}
            RecordStep::End => break,
        }
    }
    Ok(())
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
