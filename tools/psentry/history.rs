//! What the log says of sources: the newest touch of each, and the newest verdict on one. The log is read line by line as
//! psentry-follow has it, and only lines that may matter are parsed.

use std::path::Path;
use std::time::Duration;

use memchr::memmem;
use psentry_follow::{Follower, Start, Step};
use psentry_records::{Action, Prefix, Probe, Record, Timestamp, Verdict};

use crate::Error;
use crate::rows::{Touch, Touches, port_name};

/// How old the touch of somebody in quarantine is at most, with room for a long quarantine.
const RECENT: Duration = Duration::from_secs(3600);

/// What is known of an address or a prefix.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Known {
    /// How many probes of it the log has.
    pub(crate) probes: u64,
    pub(crate) last: Option<Touch>,
    /// The newest verdict on it that blocks, or would.
    pub(crate) verdict: Option<Verdict>,
}

/// The line of a log that is an earlier one than that moment.
pub(crate) fn is_before(moment: Timestamp) -> impl Fn(&str) -> bool {
    move |line| Record::parse(line).is_ok_and(|record| timestamp(&record).is_some_and(|at| at <= moment))
}

/// When a record was written.
pub(crate) fn timestamp(record: &Record) -> Option<Timestamp> {
    Some(match record {
        Record::Probe(probe) => probe.common.timestamp,
        Record::Verdict(verdict) => verdict.common.timestamp,
        Record::Outcome(outcome) => outcome.common.timestamp,
        Record::Vouch(vouch) => vouch.common.timestamp,
        Record::Stats(stats) => stats.common.timestamp,
        Record::Other(_) => return None,
    })
}

/// The newest touch of each source in one of these scopes.
///
/// # Errors
/// The log cannot be read.
pub(crate) fn touches(log: &Path, scopes: &[Prefix], now: Timestamp) -> Result<Touches, Error> {
    let mut touches = Touches::new();
    if scopes.is_empty() {
        return Ok(touches);
    }
    let is_probe = memmem::Finder::new("\"probe\"");
    let mut log = Follower::open_from(log, is_before(now.minus(RECENT)))?;
    each(
        &mut log,
        |line| is_probe.find(line).is_some(),
        |record| {
            if let Record::Probe(probe) = record
                && let Some(addr) = probe.common.src_ip
                && scopes.iter().any(|scope| scope.contains(addr))
            {
                touches.insert(addr, touch(&probe));
            }
        },
    )?;
    Ok(touches)
}

/// What the log knows of a scope.
///
/// # Errors
/// The log cannot be read.
pub(crate) fn known(log: &Path, scope: Prefix) -> Result<Known, Error> {
    let mut known = Known::default();
    let address = scope.addr().to_string();
    let (named, is_verdict) = (memmem::Finder::new(&address), memmem::Finder::new("\"verdict\""));
    let may_matter =
        |line: &[u8]| !scope.is_host() || named.find(line).is_some() || is_verdict.find(line).is_some();
    each(&mut Follower::open(log, Start::Oldest)?, may_matter, |record| match record {
        Record::Probe(probe) if probe.common.src_ip.is_some_and(|addr| scope.contains(addr)) => {
            known.probes += u64::from(probe.body.count);
            known.last = Some(touch(&probe));
        }
        Record::Verdict(verdict) if verdict.body.scope.overlaps(scope) => {
            known.verdict = (verdict.body.action != Action::Unblock).then_some(verdict);
        }
        _ => {}
    })?;
    Ok(known)
}

fn touch(probe: &Probe) -> Touch {
    let common = &probe.common;
    let port = common.dest_port.map_or_else(|| "a port".to_owned(), |port| port_name(port, common.proto));
    Touch { at: common.timestamp, port }
}

fn each(
    log: &mut Follower,
    may_matter: impl Fn(&[u8]) -> bool,
    mut take: impl FnMut(Record),
) -> Result<(), Error> {
    loop {
        match log.step()? {
            Step::Line(line) if may_matter(&line) => {
                if let Some(record) =
                    std::str::from_utf8(&line).ok().and_then(|line| Record::parse(line).ok())
                {
                    take(record);
                }
            }
            Step::Line(_) | Step::Missing(_) => {}
            Step::End => return Ok(()),
        }
    }
}
