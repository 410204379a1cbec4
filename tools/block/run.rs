//! The main loop: verdicts from standard input through the ledger to the workers, until the input ends or somebody
//! asks to stop. It never waits for a slow backend; while all of them have enough to do, it lets the pipe hold the rest,
//! so that a kill loses only what was taken out of it.
//!
//! | file | what it holds |
//! |---|---|
//! | `start.rs`, `ready.rs` | how it starts; when it is ready |
//! | `deciding.rs` | what becomes of a verdict |
//! | `brake.rs`, `braking.rs` | how many new blocks are too many; what is said of that |
//! | `stats.rs` | when counters are written |

pub(crate) mod brake;
mod braking;
mod deciding;
pub(crate) mod ready;
pub(crate) mod room;
pub(crate) mod start;
mod stats;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use psentry_records::Record;
use psentry_stage::{Intake, Next, Patience, StatsTimer, host_name};

use crate::cli::{Command, Flags};
use crate::control::Control;
use crate::error::Error;
use crate::guard::surroundings::Guard;
use crate::inbox::{Finish, Inbox};
use crate::ledger::Ledger;
use crate::panic::{Mark, Panic};
use crate::people;
use crate::people::commands;
use crate::report::Reporter;
use crate::run::brake::Brake;
use crate::run::room::{Gone, Room};
use crate::run::start::start;
use crate::watchdog::Pulse;

/// How often it is looked whether the last worker is done, once the input has ended.
const LOOK: Duration = Duration::from_millis(200);

/// How many scopes may wait in the backend in which the fewest do, before no more is read.
const AHEAD: usize = 256;

/// How often it is looked whether they have become fewer.
const BREATH: Duration = Duration::from_millis(1);

/// The program.
///
/// # Errors
/// What ends it, with the exit code that goes with it.
pub fn run(flags: Flags) -> Result<(), Error> {
    let mut flags = flags;
    let host = flags.host.take().or_else(host_name);
    if flags.check {
        return commands::check(&flags);
    }
    match &flags.command {
        Some(Command::List) => commands::list(&flags, host.as_deref()),
        Some(Command::Unblock { scope }) => commands::unblock(&flags, *scope, host.as_deref()),
        Some(Command::Flush) => people::flush(&flags, host.as_deref()),
        Some(Command::Block { scope, span, reason }) => {
            people::block(&flags, *scope, *span, reason.as_deref(), host.as_deref())
        }
        Some(Command::Status) => people::status(&flags),
        Some(Command::Why { scope }) => people::why(&flags, *scope, host.as_deref()),
        Some(Command::Panic { reason }) => people::panic(&flags, reason.as_deref(), host.as_deref()),
        Some(Command::Resume) => people::resume(&flags),
        None => start(&flags, host)?.run(flags.release),
    }
}

/// Everything that the main loop holds.
pub(crate) struct Stage {
    pub(crate) intake: Intake,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) ledger: Ledger,
    pub(crate) workers: Vec<Hired>,
    pub(crate) guard: Guard,
    /// Which version of whom never to block the ledger knows.
    pub(crate) allowed: u64,
    pub(crate) brake: Option<Brake>,
    pub(crate) most: usize,
    /// Who was turned down for want of room.
    pub(crate) room: Room,
    /// Whom backends let in without a verdict.
    pub(crate) gone: Gone,
    /// Whether what is read is written, too.
    pub(crate) pass: bool,
    /// Where people reach it, if they do.
    pub(crate) control: Option<Control>,
    /// Whether nothing more is read.
    pub(crate) over: bool,
    /// Where it is looked whether a panic holds.
    pub(crate) panic: Panic,
    /// The last panic when the verdict came that is dealt with, or at the start.
    pub(crate) mark: Mark,
    /// When the next counters are due.
    pub(crate) stats: StatsTimer,
    /// What the watchdog sees of this loop.
    pub(crate) pulse: Pulse,
}

/// A worker, as the main loop sees it.
pub(crate) struct Hired {
    pub(crate) name: &'static str,
    /// Whether its blocks can leave alone what is established.
    pub(crate) spares: bool,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) thread: JoinHandle<Result<(), Error>>,
    pub(crate) pulse: Pulse,
}

impl Stage {
    fn run(mut self, release: bool) -> Result<(), Error> {
        let came = self.read();
        self.braked(true);
        self.attend(true);
        self.over = true;
        // Whatever ended the reading, the workers end in good order before it is told.
        let ended = matches!(came, Ok(true)) && !release;
        if ended {
            self.finish(Finish::Ended);
            while self.reporter.broken().is_none() && self.workers.iter().any(|w| !w.thread.is_finished()) {
                self.write_stats();
                match self.intake.linger(Some(LOOK)) {
                    Ok(Next::Nothing) => self.attend(true),
                    Ok(Next::ReaderGone) => self.reporter.reader_gone(),
                    _ => break,
                }
            }
        }
        // Whoever asks from here on finds nobody, and knows it. From here on it only waits for the backends.
        self.control = None;
        self.pulse.wait();
        self.reporter.stopping();
        self.finish(if release { Finish::Remove } else { Finish::Stop });
        let mut result = came.map(|_| ());
        for worker in self.workers {
            let done = worker.thread.join().unwrap_or_else(|_| {
                Err(Error::Unfinished(format!("the backend {} broke; this is a bug of psentry", worker.name)))
            });
            result = result.and(done);
        }
        self.reporter.tell(&self.reporter.counters.summary());
        match self.reporter.broken() {
            Some(error) => Err(error),
            None => result,
        }
    }

    /// Reads to the end; `false`: somebody asked to stop.
    fn read(&mut self) -> Result<bool, Error> {
        let mut patience = None;
        loop {
            self.hold_up();
            self.attend(false);
            self.write_stats();
            let due = self.stats.next().saturating_duration_since(Instant::now());
            let next = self
                .intake
                .next(Some(patience.map_or(due, |patience: Duration| patience.min(due))))
                .map_err(|why| Error::Input(Arc::new(why)))?;
            if let Some(error) = self.reporter.broken() {
                return Err(error);
            }
            // From here on nobody waits for a slow reader, least of all this loop.
            if matches!(self.intake.patience(), Patience::Grace) {
                self.reporter.stopping();
            }
            match next {
                Next::Item(item) => {
                    // What waits already arrived together with this one, and may share a look around.
                    patience = Some(Duration::ZERO);
                    if let (true, Ok(record)) = (self.pass, &item.record) {
                        self.reporter.pass(record, self.intake.raw());
                    }
                    match item.record {
                        Ok(Record::Verdict(verdict)) => self.verdict(&verdict),
                        Ok(_) => {}
                        Err(malformed) => self.reporter.skipped(item.line, &malformed),
                    }
                }
                Next::Nothing => {
                    self.guard.rest();
                    self.braked(false);
                    patience = self.brake.as_ref().and_then(|brake| brake.patience(Instant::now()));
                    self.attend(true);
                }
                Next::ReaderGone => self.reporter.reader_gone(),
                Next::End => return Ok(true),
                Next::Stop => return Ok(false),
            }
        }
    }

    /// Waits while every backend has enough to do. Asked to stop, it does not: what waits in the pipe is taken then.
    fn hold_up(&mut self) {
        let ahead = |workers: &[Hired]| workers.iter().map(|w| w.inbox.len()).min().unwrap_or(0);
        while ahead(&self.workers) >= AHEAD && self.reporter.broken().is_none() {
            self.attend(true);
            self.write_stats();
            match self.intake.linger(Some(BREATH)) {
                Ok(Next::Nothing) => {}
                Ok(Next::ReaderGone) => self.reporter.reader_gone(),
                _ => return,
            }
        }
    }

    /// Where there is none, what no backend wants any more gives its room back.
    pub(crate) fn make_room(&mut self) {
        for worker in &self.workers {
            self.gone.note(worker.name, worker.inbox.let_in());
        }
        // And should they be more than there are blocks, most of them are of no use any more.
        if self.ledger.len() >= self.most || self.gone.len() > self.ledger.len() {
            self.gone.make_room(&mut self.ledger, self.workers.len());
        }
    }

    fn finish(&self, finish: Finish) {
        for worker in &self.workers {
            worker.inbox.finish(finish);
        }
    }
}

#[cfg(test)]
mod tests;
