//! What the log says: of a source, its touches and the newest verdict on it; and `log`, all of it as psentry-show says it. The log
//! is read by psentry-follow, and only lines that may matter are parsed.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;

use anstream::AutoStream;
use psentry_follow::{RecordStep, Records};
use psentry_installed::Error;
use psentry_local_time::Clock;
use psentry_records::{Action, OutcomeResult, Prefix, Probe, Record, Timestamp, Verdict};
use psentry_show::{Renderer, port};
use psentry_stage::{Exit, parse_duration, printable};

use crate::run::Context;

/// The newest touch of each source: when, and which port.
pub(crate) type Touches = BTreeMap<IpAddr, (Timestamp, String)>;

/// What is known of some scopes.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) touches: Touches,
    pub(crate) probes: u64,
    /// When the trap put one of them into quarantine last, and for how many seconds.
    pub(crate) quarantine: Option<(Timestamp, u32)>,
    /// The newest verdict that blocks one of them, or only watches it.
    pub(crate) verdict: Option<Verdict>,
    /// When the block of that verdict was ended before its time.
    pub(crate) released: Option<Timestamp>,
}

/// Takes each record that there is, with its line.
pub(crate) fn each(
    records: &mut Records,
    mut take: impl FnMut(&str, Record) -> Result<(), Error>,
) -> Result<(), Error> {
    loop {
        match records.step()? {
            RecordStep::Record(line, record) => take(&line, *record)?,
            RecordStep::Missing(why) => eprintln!("psentry: {why}"),
            RecordStep::End => return Ok(()),
        }
    }
}

/// What the log knows of some scopes, from that moment on.
pub(crate) fn known(log: &Path, scopes: &[Prefix], since: Option<Timestamp>) -> Result<Known, Error> {
    let mut known = Known::default();
    each(&mut Records::open(log, scopes, since)?, |_, record| {
        match record {
            Record::Verdict(verdict) => {
                known.verdict = Some(verdict).filter(|verdict| verdict.body.action != Action::Unblock);
                known.released = None;
            }
            Record::Outcome(outcome) if outcome.body.result == OutcomeResult::Released => {
                known.released = Some(outcome.common.timestamp);
            }
            Record::Probe(Probe { common, body }) => {
                let touch = (common.timestamp, port(&common));
                known.quarantine = body.quarantine.map(|secs| (common.timestamp, secs)).or(known.quarantine);
                known.touches.extend(common.src_ip.map(|addr| (addr, touch)));
                known.probes += u64::from(body.count);
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(known)
}

/// A moment as people write it: how long ago it was, or when.
fn moment(context: &Context, text: &str) -> Result<Timestamp, Error> {
    let Clock { now, zone } = &context.clock;
    let ago = || parse_duration(text).ok().map(|span| now.minus(span));
    let how = "write a span such as 12h, or a time such as yesterday, 15:04 or '2026-11-22 15:04'";
    zone.parse(text, *now)
        .or_else(ago)
        .ok_or_else(|| Error(Exit::Usage, format!("--since: {} is no moment; {how}", printable(text))))
}

/// Prints the log, from that moment on and about that scope; with `follow` what comes from now on, until it is stopped.
pub(crate) fn log(
    context: &Context,
    scope: Option<Prefix>,
    follow: bool,
    since: Option<&str>,
) -> Result<(), Error> {
    let since = since.map(|text| moment(context, text)).transpose()?;
    let (path, scopes) = (context.installed.log(), scope.as_slice());
    let is_new = follow && since.is_none();
    let mut records =
        if is_new { Records::open_now(&path, scopes)? } else { Records::open(&path, scopes, since)? };
    let mut renderer = Renderer::new(context.utc, AutoStream::choice(&io::stdout()));
    let mut out = io::BufWriter::new(io::stdout().lock());
    loop {
        each(&mut records, |line, record| {
            let lines = if context.json { vec![line.to_owned()] } else { renderer.lines(&record) };
            lines.iter().try_for_each(|line| writeln!(out, "{line}")).map_err(Error::output)
        })?;
        out.flush().map_err(Error::output)?;
        if !follow {
            return Ok(());
        }
        records.wait();
    }
}
