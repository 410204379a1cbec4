//! Outcomes to standard output, or into the log, and complaints to standard error, from every thread. When the reader of the
//! outcomes is gone, it says so to the main loop, by the signal that the main loop waits for anyway.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use psentry_records::{
    Action, Common, Outcome, OutcomeBody, OutcomeResult, Prefix, Record, Stats, Timestamp, Verdict,
};
use psentry_stage::{Complaints, Output, Patience};

use crate::backend::Block;
use crate::control::{Answer, Answers};
use crate::counters::Counters;
use crate::error::Error;
use crate::sink::Sink;

/// How many verdicts of the control socket are waited for at most: more than are asked at once.
const WAITING: usize = 64;

/// Where everything that psentry-block has to say goes.
pub(crate) struct Reporter {
    output: Mutex<Sink>,
    complaints: Mutex<Complaints>,
    host: Option<String>,
    /// What is counted, by every thread.
    pub(crate) counters: Counters,
    /// Why the last record could not be written, where that does not end the work. A status is told without waiting for
    /// whoever writes.
    unwritten: Mutex<Option<String>>,
    /// How many threads write, and so may wait for the reader of what they write.
    writing: AtomicUsize,
    /// Why nothing can be written any more.
    broken: OnceLock<Arc<io::Error>>,
    /// Readable from the moment the program is asked to stop, or stops for a reason of its own: then nobody waits for
    /// a slow reader for ever. A request that the main loop has not seen counts, for it may be the one that waits.
    stop: Epoll,
    _stopped: UnixStream,
    stopper: Mutex<Option<UnixStream>>,
    /// Who asked by the control socket, and waits for the outcomes of a verdict.
    waiting: Mutex<Vec<(Timestamp, Prefix, Answers)>>,
    /// What a test wants to see.
    #[cfg(test)]
    pub(crate) told: Mutex<Vec<OutcomeBody>>,
}

impl Reporter {
    /// To standard output, in the name of `host`; `asked` is readable when somebody asks to stop.
    pub(crate) fn stdout(host: Option<String>, asked: BorrowedFd<'_>) -> Result<Self, Error> {
        let output = Output::stdout("psentry-block").map_err(|why| Error::Output(Arc::new(why)))?;
        Self::to(Sink::Stdout(output), host, asked)
    }

    /// The same, to anywhere.
    pub(crate) fn to(output: Sink, host: Option<String>, asked: BorrowedFd<'_>) -> Result<Self, Error> {
        let (stopped, stopper) = UnixStream::pair().map_err(Error::system("open a pair of sockets"))?;
        let watch = || -> nix::Result<Epoll> {
            let stop = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
            stop.add(asked, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
            stop.add(&stopped, EpollEvent::new(EpollFlags::EPOLLIN, 1))?;
            Ok(stop)
        };
        let stop = watch().map_err(|errno| Error::system("wait for signals")(errno.into()))?;
        Ok(Reporter {
            output: Mutex::new(output),
            complaints: Mutex::new(Complaints::new("psentry-block")),
            host,
            counters: Counters::default(),
            unwritten: Mutex::default(),
            writing: AtomicUsize::new(0),
            broken: OnceLock::new(),
            stop,
            _stopped: stopped,
            stopper: Mutex::new(Some(stopper)),
            waiting: Mutex::default(),
            #[cfg(test)]
            told: Mutex::default(),
        })
    }

    /// Writes an outcome; of which verdict, `common` tells.
    pub(crate) fn outcome(&self, common: Option<&Common>, body: OutcomeBody) {
        #[cfg(test)]
        lock(&self.told).push(body.clone());
        self.counters.outcome(body.result);
        let now = Timestamp::now();
        let mut common = common.cloned().unwrap_or_else(|| Common::at(now));
        let (decided, scope) = (common.timestamp, body.scope);
        common.timestamp = now;
        common.host.clone_from(&self.host);
        let record = Record::Outcome(Outcome { common, body });
        self.answer(decided, scope, &record);
        self.write(&record);
    }

    /// From now on the outcomes of this verdict go to whoever waits for `answers`, too.
    pub(crate) fn tell_of(&self, verdict: &Verdict, answers: Answers) {
        let mut waiting = lock(&self.waiting);
        // Those before have long got theirs, or have left.
        let over = waiting.len().saturating_sub(WAITING);
        waiting.drain(..over);
        waiting.push((verdict.common.timestamp, verdict.body.scope, answers));
    }

    fn answer(&self, decided: Timestamp, scope: Prefix, record: &Record) {
        let mut waiting = lock(&self.waiting);
        if waiting.is_empty() {
            return;
        }
        let Record::Outcome(Outcome { body, .. }) = record else { return };
        let mut line = Vec::new();
        if record.encode(&mut line).is_ok() {
            waiting.retain(|(when, whom, answers)| {
                let meant = (*when, *whom) == (decided, scope);
                !meant || answers.send(Answer::Lines(body.backend.clone(), line.clone())).is_ok()
            });
        }
    }

    /// Writes the counters; `blocks` are wanted now, and `waiting` changes wait for a backend.
    pub(crate) fn stats(&self, blocks: usize, waiting: usize) {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let common = Common { host: self.host.clone(), ..Common::at(Timestamp::now()) };
        let record = Record::Stats(Stats { common, body: self.counters.body(count(blocks), count(waiting)) });
        self.write(&record);
    }

    /// Passes on a record's line as it was read.
    pub(crate) fn pass(&self, record: &Record, line: &[u8]) {
        self.put(|output, patience| output.pass(patience, record, line));
    }

    fn write(&self, record: &Record) {
        self.put(|output, patience| output.write(patience, record));
    }

    fn put(&self, write: impl FnOnce(&mut Sink, Patience<'_>) -> io::Result<()>) {
        if self.broken.get().is_some() {
            return;
        }
        self.writing.fetch_add(1, Ordering::Relaxed);
        let written = {
            let mut output = lock(&self.output);
            let written = write(&mut output, Patience::Until(self.stop.0.as_fd()));
            self.counters.lost.set(output.lost());
            self.counters.set_log(output.log_counts());
            *lock(&self.unwritten) = output.failure().map(str::to_owned);
            written
        };
        self.writing.fetch_sub(1, Ordering::Relaxed);
        if let Err(why) = written {
            let _ = self.broken.set(Arc::new(why));
            wake_main();
        }
    }

    /// Whether somebody writes right now; on a pipe that is as slow as its reader.
    pub(crate) fn awaits_reader(&self) -> bool {
        self.writing.load(Ordering::Relaxed) > 0
    }

    /// Why records are being lost: the disk that they are written to is full; `None`: they are not.
    pub(crate) fn unwritten(&self) -> Option<String> {
        lock(&self.unwritten).clone()
    }

    /// Takes note that nobody reads outcomes any more.
    pub(crate) fn reader_gone(&self) {
        let _ = self.broken.set(Arc::new(io::ErrorKind::BrokenPipe.into()));
    }

    /// Complains on standard error, in a whole sentence.
    pub(crate) fn say(&self, sentence: &str) {
        lock(&self.complaints).say(sentence);
    }

    /// Complains about a line of the input.
    pub(crate) fn skipped(&self, line: u64, malformed: &psentry_records::Malformed) {
        self.counters.skipped.add();
        lock(&self.complaints).skipped(line, malformed);
    }

    /// Tells something that is no complaint, and so is never left out.
    pub(crate) fn tell(&self, sentence: &str) {
        let _ = writeln!(io::stderr(), "psentry-block: {sentence}");
    }

    /// Why outcomes cannot be written any more, if so.
    pub(crate) fn broken(&self) -> Option<Error> {
        self.broken.get().map(|why| Error::Output(Arc::clone(why)))
    }

    /// From now on a reader that does not read is not waited for.
    pub(crate) fn stopping(&self) {
        drop(lock(&self.stopper).take());
    }
}

/// An outcome without an end or an error.
pub(crate) fn body(
    action: Action,
    scope: Prefix,
    backend: Option<&str>,
    result: OutcomeResult,
) -> OutcomeBody {
    OutcomeBody {
        action,
        scope,
        backend: backend.map(str::to_owned),
        result,
        until: None,
        error: None,
        rule: None,
        reason: None,
        since: None,
        ports: Vec::new(),
        handshake: None,
    }
}

/// A block as it is listed: all that is known of it, with why it does not stand, if it does not.
pub(crate) fn listed(scope: Prefix, backend: &str, block: &Block, missing: Option<String>) -> Outcome {
    let mut common = Common::at(Timestamp::now());
    common.proto = block.proto.filter(|_| !block.ports.is_empty());
    let result = if missing.is_none() { OutcomeResult::Already } else { OutcomeResult::Failed };
    let body = OutcomeBody {
        until: block.until,
        error: missing,
        rule: block.rule.clone(),
        reason: block.reason.clone(),
        since: block.since,
        ports: block.ports.clone(),
        handshake: block.unproven.then_some(false),
        ..body(Action::Block, scope, Some(backend), result)
    };
    Outcome { common, body }
}

/// An outcome of now.
pub(crate) fn of_now(body: OutcomeBody) -> Outcome {
    Outcome { common: Common::at(Timestamp::now()), body }
}

/// Outcomes as lines.
pub(crate) fn lines(outcomes: impl IntoIterator<Item = Outcome>, host: Option<&str>) -> Vec<u8> {
    let mut text = Vec::new();
    let mut line = Vec::new();
    for mut outcome in outcomes {
        outcome.common.host = host.map(str::to_owned);
        if Record::Outcome(outcome).encode(&mut line).is_ok() {
            text.extend_from_slice(&line);
        }
    }
    text
}

/// Ends the main loop's waiting, as a request to stop would.
pub(crate) fn wake_main() {
    if let Ok(pid) = i32::try_from(std::process::id()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
