//! `log`: the records as psentry-show says them, from all files of the log, and on as it grows.

use std::io::{self, Write};

use anstream::AutoStream;
use psentry_follow::{Follower, Start, Step};
use psentry_records::{Prefix, Record, Timestamp};
use psentry_show::Renderer;

use crate::Error;
use crate::history::{is_before, timestamp};
use crate::run::Context;

/// Prints it; with `follow` until it is stopped.
pub(crate) fn log(
    context: &Context,
    scope: Option<Prefix>,
    follow: bool,
    since: Option<Timestamp>,
) -> Result<(), Error> {
    let path = context.installed.log();
    // A log that is missing, or may not be read, is not an empty one.
    if !follow {
        std::fs::File::open(&path).map_err(Error::file("read", &path))?;
    }
    let mut log = match since {
        Some(since) => Follower::open_from(&path, is_before(since))?,
        None => Follower::open(&path, if follow { Start::Now } else { Start::Oldest })?,
    };
    let mut renderer = Renderer::new(context.utc, AutoStream::choice(&io::stdout()));
    let mut out = io::BufWriter::new(io::stdout().lock());
    loop {
        let written = match log.step()? {
            Step::Line(line) => {
                let Some(record) = std::str::from_utf8(&line).ok().and_then(|line| Record::parse(line).ok())
                else {
                    continue;
                };
                let is_meant = since.is_none_or(|since| timestamp(&record).is_some_and(|at| at >= since))
                    && scope.is_none_or(|scope| is_about(&record, scope));
                if !is_meant {
                    Ok(())
                } else if context.json {
                    out.write_all(&line).and_then(|()| out.write_all(b"\n"))
                } else {
                    renderer.lines(&record).iter().try_for_each(|line| writeln!(out, "{line}"))
                }
            }
            Step::Missing(why) => writeln!(io::stderr(), "psentry: {why}"),
            Step::End => {
                let written = out.flush();
                if written.is_ok() && follow {
                    log.wait(log.patience());
                } else if !follow {
                    return finished(written);
                }
                written
            }
        };
        if written.is_err() {
            return finished(written);
        }
    }
}

/// A reader that has seen enough is no error.
fn finished(written: io::Result<()>) -> Result<(), Error> {
    match written {
        Err(why) if why.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::new(psentry_stage::Exit::Io, format!("cannot write to standard output: {why}")))
        }
        _ => Ok(()),
    }
}

/// Whether a record is about an address of that scope.
fn is_about(record: &Record, scope: Prefix) -> bool {
    let source = match record {
        Record::Probe(probe) => probe.common.src_ip,
        Record::Vouch(vouch) => vouch.common.src_ip,
        Record::Verdict(verdict) => return verdict.body.scope.overlaps(scope),
        Record::Outcome(outcome) => return outcome.body.scope.overlaps(scope),
        Record::Stats(_) | Record::Other(_) => None,
    };
    source.is_some_and(|addr| scope.contains(addr))
}
