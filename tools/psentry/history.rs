//! What the log says: of a source, its touches and the newest verdict on it; and `log`, all of it as psentry-show says it. The log
//! is read by psentry-follow, and only lines that may matter are parsed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;

use anstream::AutoStream;
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

/// Takes each record that there is, of those lines that may matter.
pub(crate) fn each(
    mut log: Follower,
    may_matter: impl Fn(&str) -> bool,
    mut take: impl FnMut(Record),
) -> Result<(), Error> {
    loop {
        match log.step()? {
            Step::Line(line) => drop(parsed(&line, &may_matter).map(&mut take)),
            Step::Missing(_) => {}
            Step::End => return Ok(()),
        }
    }
}

fn parsed(line: &[u8], may_matter: impl Fn(&str) -> bool) -> Option<Record> {
    let line = std::str::from_utf8(line).ok().filter(|line| may_matter(line))?;
    Record::parse(line).ok()
}

/// What the log knows of some scopes, from that moment on.
pub(crate) fn known(log: &Path, scopes: &[Prefix], since: Option<Timestamp>) -> Result<Known, Error> {
    let mut known = Known::default();
    let name =
        |scope: &Prefix| if scope.is_host() { scope.addr().to_string() } else { "\"probe\"".to_owned() };
    let named: Vec<String> = scopes.iter().map(name).chain(["\"verdict\"".to_owned()]).collect();
    let may_matter = |line: &str| named.iter().any(|name| line.contains(name));
    let is_meant = |of: Prefix| scopes.iter().any(|scope| scope.overlaps(of));
    each(open(log, since)?, may_matter, |record| match record {
        Record::Verdict(verdict) if is_meant(verdict.body.scope) => {
            known.verdict = Some(verdict).filter(|verdict| verdict.body.action != Action::Unblock);
        }
        Record::Probe(probe) => {
            let (common, count) = (probe.common, u64::from(probe.body.count));
            if let Some(addr) = common.src_ip.filter(|addr| is_meant(Prefix::host(*addr))) {
                known.touches.insert(addr, (common.timestamp, port_name(common.dest_port, common.proto)));
                known.probes += count;
            }
        }
        _ => {}
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
    let is_meant = |record: &Record| {
        let (at, of) = about(record);
        at >= since && scope.is_none_or(|scope| of.is_some_and(|of| of.overlaps(scope)))
    };
    loop {
        let written = match log.step()? {
            Step::Line(line) => match parsed(&line, |_| true).filter(is_meant) {
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
