//! What the log says: of a source, its touches and the newest verdict on it; and `log`, all of it as psentry-show says it. The log
//! is read by psentry-follow, and only lines that may matter are parsed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;

use anstream::AutoStream;
use psentry_follow::{Follower, Start, Step};
use psentry_records::{Action, Prefix, Probe, Record, Timestamp, Verdict};
use psentry_show::Renderer;

use crate::Error;
use crate::rows::port_name;
use crate::run::{Context, printed};

/// The newest touch of each source: when, and which port.
pub(crate) type Touches = BTreeMap<IpAddr, (Timestamp, String)>;

/// What is known of some scopes.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) touches: Touches,
    pub(crate) probes: u64,
    /// The newest verdict that blocks one of them, or only watches it.
    pub(crate) verdict: Option<Verdict>,
}

/// When a record was written, and whom it is about.
pub(crate) fn about(record: &Record) -> (Option<Timestamp>, Option<Prefix>) {
    let (common, scope) = match record {
        Record::Probe(probe) => (&probe.common, probe.common.src_ip.map(Prefix::host)),
        Record::Vouch(vouch) => (&vouch.common, vouch.common.src_ip.map(Prefix::host)),
        Record::Verdict(verdict) => (&verdict.common, Some(verdict.body.scope)),
        Record::Outcome(outcome) => (&outcome.common, Some(outcome.body.scope)),
        Record::Stats(stats) => (&stats.common, None),
        Record::Other(_) => return (None, None),
    };
    (Some(common.timestamp), scope)
}

/// The log, from the file on that has records from before that moment, or from its oldest record.
pub(crate) fn open(log: &Path, since: Option<Timestamp>) -> Result<Follower, Error> {
    // A log that is missing, or may not be read, is not an empty one.
    File::open(log).map_err(Error::file("read", log))?;
    let Some(since) = since else { return Ok(Follower::open(log, Start::Oldest)?) };
    let is_early = |line: &str| Record::parse(line).is_ok_and(|record| about(&record).0 < Some(since));
    Ok(Follower::open_from(log, is_early)?)
}

/// Takes each record that is about one of these scopes, or without scopes each that there is, with its line.
pub(crate) fn each(
    log: &mut Follower,
    scopes: &[Prefix],
    mut take: impl FnMut(&str, Record) -> Result<(), Error>,
) -> Result<(), Error> {
    // Most lines are about others, and are not parsed: those that name no scope, nor may be about a network around it.
    let name = |scope: &Prefix| if scope.is_host() { scope.addr().to_string() } else { String::new() };
    let wide = ["\"verdict\"", "\"outcome\""].map(str::to_owned);
    let names: Vec<String> = scopes.iter().map(name).chain(wide).collect();
    let is_meant = |of: Prefix| scopes.iter().any(|scope| scope.overlaps(of));
    loop {
        match log.step()? {
            Step::Line(line) => {
                let line = String::from_utf8_lossy(&line);
                if !scopes.is_empty() && !names.iter().any(|name| line.contains(name)) {
                    continue;
                }
                let record = Record::parse(&line).ok();
                let record =
                    record.filter(|record| scopes.is_empty() || about(record).1.is_some_and(is_meant));
                record.map_or(Ok(()), |record| take(&line, record))?;
            }
            Step::Missing(why) => eprintln!("psentry: {why}"),
            Step::End => return Ok(()),
        }
    }
}

/// What the log knows of some scopes, from that moment on.
pub(crate) fn known(log: &Path, scopes: &[Prefix], since: Option<Timestamp>) -> Result<Known, Error> {
    let mut known = Known::default();
    each(&mut open(log, since)?, scopes, |_, record| {
        match record {
            Record::Verdict(verdict) => {
                known.verdict = Some(verdict).filter(|verdict| verdict.body.action != Action::Unblock);
            }
            Record::Probe(Probe { common, body }) => {
                let touch = (common.timestamp, port_name(common.dest_port, common.proto));
                known.touches.extend(common.src_ip.map(|addr| (addr, touch)));
                known.probes += u64::from(body.count);
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(known)
}

/// Prints the log, from that moment on and about that scope; with `follow` what comes from now on, until it is stopped.
pub(crate) fn log(
    context: &Context,
    scope: Option<Prefix>,
    follow: bool,
    since: Option<Timestamp>,
) -> Result<(), Error> {
    let path = context.installed.log();
    let is_new = follow && since.is_none();
    let mut log = if is_new { Follower::open(&path, Start::Now)? } else { open(&path, since)? };
    let mut renderer = Renderer::new(context.utc, AutoStream::choice(&io::stdout()));
    let mut out = io::BufWriter::new(io::stdout().lock());
    loop {
        each(&mut log, scope.as_slice(), |line, record| {
            if about(&record).0 < since {
                return Ok(());
            }
            let lines = if context.json { vec![line.to_owned()] } else { renderer.lines(&record) };
            lines.iter().try_for_each(|line| printed(writeln!(out, "{line}")))
        })?;
        printed(out.flush())?;
        if !follow {
            return Ok(());
        }
        log.wait(log.patience());
    }
}
