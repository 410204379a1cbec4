//! What the log says: of a source, its touches and the newest verdict on it; and `log`, all of it as psentry-show says it. The log
//! is read by psentry-follow, and only lines that may matter are parsed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;

use anstream::AutoStream;
use memchr::memmem::Finder;
use psentry_follow::{Follower, Start, Step};
use psentry_records::{Action, Prefix, Record, Timestamp, Verdict};
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

/// Takes each record there is, of those lines that may matter.
pub(crate) fn each(
    mut log: Follower,
    may_matter: impl Fn(&[u8]) -> bool,
    mut take: impl FnMut(Record),
) -> Result<(), Error> {
    loop {
        match log.step()? {
            Step::Line(line) if may_matter(&line) => drop(parsed(&line).map(&mut take)),
            Step::End => return Ok(()),
            _ => {}
        }
    }
}

fn parsed(line: &[u8]) -> Option<Record> {
    Record::parse(std::str::from_utf8(line).ok()?).ok()
}

/// What the log knows of some scopes, from that moment on.
pub(crate) fn known(log: &Path, scopes: &[Prefix], since: Option<Timestamp>) -> Result<Known, Error> {
    let mut known = Known::default();
    let named: Vec<String> = scopes
        .iter()
        .map(|scope| if scope.is_host() { scope.addr().to_string() } else { "\"probe\"".into() })
        .collect();
    let named: Vec<Finder<'_>> = named.iter().map(Finder::new).chain([Finder::new("\"verdict\"")]).collect();
    let may_matter = |line: &[u8]| named.iter().any(|name| name.find(line).is_some());
    each(open(log, since)?, may_matter, |record| {
        let of = about(&record).1;
        if !of.is_some_and(|of| scopes.iter().any(|scope| scope.overlaps(of))) {
            return;
        }
        match record {
            Record::Probe(probe) => {
                let common = &probe.common;
                let port = common
                    .dest_port
                    .map_or_else(|| "no port".to_owned(), |port| port_name(port, common.proto));
                known.touches.extend(common.src_ip.map(|addr| (addr, (common.timestamp, port))));
                known.probes += u64::from(probe.body.count);
            }
            Record::Verdict(verdict) => {
                known.verdict = (verdict.body.action != Action::Unblock).then_some(verdict);
            }
            _ => {}
        }
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
    let mut log =
        if follow && since.is_none() { Follower::open(&path, Start::Now)? } else { open(&path, since)? };
    let mut renderer = Renderer::new(context.utc, AutoStream::choice(&io::stdout()));
    let mut out = io::BufWriter::new(io::stdout().lock());
    let is_meant = |record: &Record| {
        let (at, of) = about(record);
        at >= since && scope.is_none_or(|scope| of.is_some_and(|of| of.overlaps(scope)))
    };
    loop {
        let written = match log.step()? {
            Step::Line(line) => match parsed(&line).filter(is_meant) {
                Some(_) if context.json => out.write_all(&line).and_then(|()| out.write_all(b"\n")),
                Some(record) => renderer.lines(&record).iter().try_for_each(|line| writeln!(out, "{line}")),
                None => Ok(()),
            },
            Step::Missing(why) => writeln!(io::stderr(), "psentry: {why}"),
            Step::End if follow => out.flush().map(|()| log.wait(log.patience())),
            Step::End => return printed(out.flush()),
        };
        if written.is_err() {
            return printed(written);
        }
    }
}
