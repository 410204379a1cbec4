//! `panic` and `resume`. A panic works beside an engine that hangs, and whatever else fails: first the file, so that nobody is
//! blocked any more, then every backend is purged here. It is the only command that opens backends.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use psentry_control::Silence;
use psentry_records::Timestamp;
use psentry_stage::panic_file::{Order, PanicFile};
use psentry_stage::{Exit, Failure, FifoWriter};

use super::client::Client;
use super::print::first;
use crate::backends;
use crate::cli::{Flags, Which};
use crate::error::Error;
use crate::journal::Place;
use crate::outcomes::{EVENTS, PANIC_OVER, everybody, outcome, report};
use crate::protocol::Report;
use psentry_control::Question;

/// How long all backends together may take; each has a thread of its own, so that none waits for another.
const PURGING: Duration = Duration::from_secs(20);

/// How long the engine that runs is waited for.
const WAKING: Duration = Duration::from_secs(1);

/// A backend, and how it is purged.
type Purge = (Which, Box<dyn FnOnce() -> Result<(), Error> + Send>);

/// Releases everybody, and blocks nobody until [`resume`].
pub(super) fn panic(client: Client<'_>, file: &PanicFile, reason: Option<&str>) -> Result<(), Error> {
    let declared = write(file, &order(file.holds(), Order::now(reason)));
    let purge = |which: Which| -> Purge {
        let backend = backends::open(which, client.flags);
        (which, Box::new(move || backend?.purge()))
    };
    // How to undo what a command did, only the engine knows.
    let real = Which::REAL.into_iter().filter(|which| *which != Which::Exec);
    if declared.is_err() {
        // Else it would put back what is purged.
        let _ = client.ask_running(&Question::Flush, WAKING);
    }
    let mut errors = purge_all(real.map(purge).collect(), PURGING);
    // It looks at the file once it is asked anything.
    match client.ask_running(&Question::Status, WAKING) {
        Ok(answer) if answer.reports.iter().any(blocks_by_command) => {
            report("exec: the psentry-block that runs ends the blocks of its command");
        }
        Ok(_) => {}
        Err(silence) => {
            if silence == Silence::Hangs {
                report(&format!(
                    "{}: psentry-block hangs; should it go on, it sees the panic before it blocks anybody",
                    client.path().display()
                ));
            }
            errors.extend(left_by_commands(client.flags).map(Error::Unfinished));
        }
    }
    let purged = first(errors);
    report(match (file.holds(), &purged) {
        (None, _) => "the panic does not hold: the next source that is convicted is blocked",
        (Some(_), Ok(())) => "everybody is released, and nobody is blocked until 'psentry resume'",
        (Some(_), Err(_)) => {
            "nobody more is blocked until 'psentry resume', but not everybody could be released"
        }
    });
    purged.and(declared)
}

/// What the file is to say. A panic that holds keeps its time, its author and its reason: whoever ends it has to know them.
fn order(first: Option<Order>, now: Order) -> Order {
    match first {
        Some(first) => Order { reason: first.reason.or(now.reason), ..first },
        None => now,
    }
}

/// That commands still block somebody, and what ends that: the engine alone knows how to undo what they did.
fn left_by_commands(flags: &Flags) -> Option<String> {
    let place = Place::of_command(flags.state.as_deref(), flags.exec_roll.as_deref());
    let count = place.read().map_or(0, |recorded| recorded.by_command.len());
    let (stay, them) =
        if count == 1 { ("block of a command stays", "it") } else { ("blocks of commands stay", "them") };
    (count > 0).then(|| format!("exec: {count} {stay} until a psentry-block runs, which undoes {them}"))
}

/// Whether a command of the administrator's blocks somebody.
fn blocks_by_command(report: &Report) -> bool {
    report.backend == Which::Exec.name() && report.standing != Some(0)
}

/// Purges all of them beside each other; why some could not be, and that a right is missing only once. What this machine does
/// not have, holds nothing.
fn purge_all(purges: Vec<Purge>, limit: Duration) -> Vec<Error> {
    let since = Instant::now();
    let started = purges.into_iter().map(|(which, purge)| {
        let (sender, result) = channel();
        let thread = thread::Builder::new().name(which.name().to_owned()).spawn(move || sender.send(purge()));
        (which, thread.map(|_| result).map_err(Error::system("start a thread")))
    });
    let started: Vec<_> = started.collect();
    let late = |which: Which, why: &str| Err(Error::Unfinished(format!("{}: {why}", which.name())));
    let results = started.into_iter().map(|(which, result)| {
        match result?.recv_timeout(limit.saturating_sub(since.elapsed())) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => {
                late(which, &format!("it is not done within {} s", limit.as_secs()))
            }
            Err(RecvTimeoutError::Disconnected) => late(which, "it failed"),
        }
    });
    let mut errors: Vec<Error> =
        results.filter_map(Result::err).filter(|error| !error.is_unsupported()).collect();
    let mut forbidden = false;
    errors.retain(|error| error.exit() != Exit::NoPermission || !std::mem::replace(&mut forbidden, true));
    errors
}

/// Ends a panic. Who was released by it stays so: nothing is put back.
pub(super) fn resume(client: Client<'_>, file: &PanicFile, mut judge: FifoWriter) -> Result<(), Error> {
    let Some(order) = file.holds() else {
        if let Some(why) = file.unknown() {
            return Err(Error::file(file.path(), "tell whether a panic holds")(why));
        }
        report("there is no panic; nothing to resume");
        return Ok(());
    };
    if let Err(error) = write(file, &Order { over: Some(Timestamp::now()), ..order }) {
        report("the panic still holds: nobody is blocked");
        return Err(error);
    }
    report("the panic is over: whoever scans from now on is blocked; who was released stays so until then");
    // It looks at the file once it is asked anything, and tells the judge.
    match client.ask_running(&Question::Status, WAKING) {
        Err(Silence::Absent | Silence::Dead) => {
            for body in everybody(PANIC_OVER) {
                judge.write(&outcome(body, client.host));
            }
        }
        Err(_) => {}
        Ok(_) if judge.is_read() => {}
        Ok(_) => report(&format!(
            "the judge is not told, because nothing reads {EVENTS}: it writes no further verdict about the \
             sources that it convicted until their blocks would have ended"
        )),
    }
    Ok(())
}

fn write(file: &PanicFile, order: &Order) -> Result<(), Error> {
    file.write(order).map_err(Error::file(file.path(), "write it"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn a_second_panic_keeps_what_the_first_said() {
        let said = |reason: Option<&str>, by: &str| Order { by: by.to_owned(), ..Order::now(reason) };
        let first = said(Some("the shop is down"), "alice");
        assert_eq!(order(None, first.clone()), first);
        assert_eq!(order(Some(first.clone()), said(Some("another"), "bob")), first);
        assert_eq!(order(Some(first.clone()), said(None, "bob")), first);
        let silent = said(None, "alice");
        let both = order(Some(silent.clone()), said(Some("customers"), "bob"));
        assert_eq!(both, Order { reason: Some("customers".to_owned()), ..silent });
    }

    #[test]
    fn a_backend_that_hangs_holds_up_no_other_and_is_named() {
        let (release, hang) = channel::<()>();
        let (sender, purged) = channel();
        let missing = || Error::Missing { backend: "ipset", program: "ipset".to_owned() };
        let purges: Vec<Purge> = vec![
            (
                Which::Nft,
                Box::new(move || {
                    sender.send(Which::Nft).unwrap();
                    Err(Error::NotPermitted { backend: "nft" })
                }),
            ),
            (Which::Route, Box::new(|| Err(Error::NotPermitted { backend: "route" }))),
            (Which::Ipset, Box::new(move || Err(missing()))),
            // Without the backtrace, which on a busy machine takes longer than the limit.
            (Which::Iptables, Box::new(|| std::panic::resume_unwind(Box::new("a bug")))),
            (
                Which::HostsDeny,
                Box::new(move || {
                    let _ = hang.recv();
                    Ok(())
                }),
            ),
        ];
        let errors: Vec<String> =
            purge_all(purges, Duration::from_secs(2)).iter().map(ToString::to_string).collect();
        assert_eq!(purged.recv(), Ok(Which::Nft));
        assert_eq!(
            errors,
            [
                "--backend nft needs CAP_NET_ADMIN; run psentry-block as root",
                "iptables: it failed",
                "hosts-deny: it is not done within 2 s"
            ]
        );
        drop(release);
    }

    #[test]
    fn a_panic_is_over_once_it_is_resumed() {
        let directory = tempfile::tempdir().unwrap();
        let file = PanicFile::at(&directory.path().join("panic"));
        let control = directory.path().join("control");
        let flags = Flags::try_parse_from(["x", "--control", control.to_str().unwrap()]).unwrap();
        let judge = || FifoWriter::at(directory.path().join("events"));
        let client = Client { flags: &flags, host: None };
        let resume = |file| resume(client, file, judge());
        resume(&file).unwrap();
        assert_eq!(file.last(), None, "there was none");
        std::fs::write(file.path(), "").unwrap();
        resume(&file).unwrap();
        assert!(file.holds().is_none() && file.last().unwrap().over.is_some());
        let nowhere = PanicFile::at(&directory.path().join("panic/below"));
        resume(&nowhere).unwrap();
    }
}
