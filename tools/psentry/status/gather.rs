//! What there is to know: units of systemd, the newest records of the log, the control sockets, the panic file.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::time::Duration;

use psentry_control::Silence;
use psentry_follow::{Follower, Step};
use psentry_records::{Record, Timestamp};
use psentry_stage::panic_file::PanicFile;

use super::findings::{Gathered, Socket, Unit};
use crate::history::{is_before, timestamp};
use crate::installed::Installed;
use crate::run::Context;
use crate::siblings::{has_systemd, systemctl};
use crate::tools::{Answer, TELLING, Tool, ask_all};
use crate::{Error, decoys};

/// Of how long ago records are read.
const RECENT: Duration = Duration::from_secs(3600);

/// What is read of a unit.
const PROPERTIES: &str =
    "Id,LoadState,ActiveState,SubState,Result,NRestarts,ActiveEnterTimestamp,ExecMainExitTimestamp";

const UNITS: [&str; 6] = [
    "psentry-listen.service",
    "psentry-trap.service",
    "psentry-judge.service",
    "psentry-block.service",
    "psentry-selftest.service",
    "psentry-selftest.timer",
];

/// Gathers it.
///
/// # Errors
/// Only root, and who is in the group psentry, may ask.
pub(super) fn gather(context: &Context) -> Result<Gathered, Error> {
    let installed = &context.installed;
    let [trap, block] = ask_all(installed, b"{\"ask\":\"status\"}\n", TELLING);
    let answers = [&trap, &block].into_iter().any(|answer| !matches!(answer.reply, Err(Silence::Absent)));
    let mut gathered = Gathered {
        trap: socket(&trap, Tool::Trap)?,
        block: socket(&block, Tool::Block)?,
        panic: PanicFile::default().holds(),
        mode: installed.mode().map_or_else(|why| why.to_string(), |mode| mode.name().to_owned()),
        conf_changed: changed(installed),
        ..Gathered::default()
    };
    if has_systemd() {
        gathered.units =
            units(&systemctl(&[&["show", "--timestamp=unix", "-p", PROPERTIES], &UNITS[..]].concat())?);
        gathered.decoys = Some(decoys::open()?.len());
        let missing =
            ["run/psentry/events", "run/psentry/verdicts"].map(|fifo| installed.path(fifo)).into_iter();
        let is_fifo =
            |path: &std::path::PathBuf| fs::metadata(path).is_ok_and(|meta| meta.file_type().is_fifo());
        let missing = missing.filter(|path| !is_fifo(path)).map(|path| path.display().to_string());
        gathered.missing_fifos = Some(missing.collect());
    }
    let log = installed.log();
    gathered.installed = answers
        || log.exists()
        || installed.conf().exists()
        || gathered.units.values().any(|unit| unit.load == "loaded");
    if let Err(error) = records(installed, context.clock.now, &mut gathered) {
        gathered.log_error = Some(error.to_string());
    }
    Ok(gathered)
}

/// What a tool answers.
fn socket(answer: &Answer, tool: Tool) -> Result<Socket, Error> {
    match &answer.reply {
        Ok(reply) => {
            let reports = reply.lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
            Ok(Socket { silence: reply.errors.first().cloned(), reports })
        }
        Err(silence @ Silence::Forbidden) => Err(Error::silent(silence, &answer.path, tool.name())),
        Err(silence) => {
            let silence = Some(silence.sentence(&answer.path, tool.name()));
            Ok(Socket { silence, reports: Vec::new() })
        }
    }
}

fn changed(installed: &Installed) -> Option<Timestamp> {
    let changed = fs::metadata(installed.conf()).and_then(|meta| meta.modified()).ok()?;
    let since = changed.duration_since(std::time::UNIX_EPOCH).ok()?;
    Timestamp::from_secs(since.as_secs())
}

/// The units that `systemctl show` prints, one after the other with an empty line between.
fn units(text: &str) -> BTreeMap<String, Unit> {
    let mut units = BTreeMap::new();
    for part in text.split("\n\n") {
        let fields: BTreeMap<&str, &str> = part.lines().filter_map(|line| line.split_once('=')).collect();
        let field = |name: &str| fields.get(name).copied().unwrap_or_default().to_owned();
        let moment = |name: &str| Timestamp::from_secs(field(name).strip_prefix('@')?.parse().ok()?);
        let unit = Unit {
            load: field("LoadState"),
            active: field("ActiveState"),
            sub: field("SubState"),
            result: field("Result"),
            restarts: field("NRestarts").parse().unwrap_or(0),
            since: moment("ActiveEnterTimestamp"),
            ended: moment("ExecMainExitTimestamp"),
        };
        units.insert(field("Id"), unit);
    }
    units
}

/// The newest record, and the newest counters of each stage.
fn records(installed: &Installed, now: Timestamp, gathered: &mut Gathered) -> Result<(), Error> {
    let path = installed.log();
    fs::File::open(&path).map_err(Error::file("read", &path))?;
    let mut log = Follower::open_from(&path, is_before(now.minus(RECENT)))?;
    loop {
        match log.step()? {
            Step::Line(line) => {
                let Some(record) = std::str::from_utf8(&line).ok().and_then(|line| Record::parse(line).ok())
                else {
                    continue;
                };
                if let Record::Stats(stats) = &record {
                    gathered.stats.insert(stats.body.stage.clone(), stats.common.timestamp);
                }
                gathered.newest = gathered.newest.max(timestamp(&record));
            }
            Step::Missing(_) => {}
            Step::End => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_as_systemctl_shows_them() {
        let units = units(
            "Id=psentry-judge.service\nLoadState=loaded\nActiveState=active\nSubState=running\nResult=success\n\
             NRestarts=2\nActiveEnterTimestamp=@1790000000\nExecMainExitTimestamp=\n\nId=psentry-selftest.timer\nLoadState=not-found\n",
        );
        let judge = units.get("psentry-judge.service").unwrap();
        assert_eq!((judge.active.as_str(), judge.restarts, judge.ended), ("active", 2, None));
        assert_eq!(judge.since, Timestamp::from_secs(1_790_000_000));
        assert_eq!(units.get("psentry-selftest.timer").unwrap().load, "not-found");
    }
}
