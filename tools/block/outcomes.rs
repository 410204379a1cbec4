//! What psentry-block says: outcomes and other records to standard output or into the log, complaints to standard error. Records
//! are written by a thread of their own, so that a slow reader holds up no end of a block; the engine takes no more verdicts
//! while too many records wait. And what is said to the judge.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use psentry_log::{Log, LogCounts, LogRate};
use psentry_records::{
    Action, Common, Malformed, Outcome, OutcomeBody, OutcomeResult, Prefix, Record, Stats, Timestamp,
};
use psentry_stage::{Bell, Complaints, Journal, Output, Patience, speak};

use crate::block::Block;
use crate::cli::Flags;
use crate::counters::{Counters, SinkCounts};
use crate::error::Error;
use crate::journald;

/// How many records may wait to be written before no more verdicts are taken.
const WAITING: usize = 1024;

/// Takes records. A log takes them at once; whoever reads standard output may be slow.
pub(crate) enum Sink {
    Stdout(Output),
    Log(Box<Log>),
}

/// The FIFO that the judge reads probes from, where psentry-events.socket has it. In it is said whom somebody released, so that the
/// judge forgets the conviction and new evidence counts at once. Else it would say nothing of that source until the conviction had
/// ended.
pub(crate) const EVENTS: &str = "/run/psentry/events";

/// Why everybody counts as released once a panic is over: then the judge forgets whom it convicted before and meanwhile.
pub(crate) const PANIC_OVER: &str = "a panic is over: whoever was convicted before is judged anew";

/// All addresses: no block is as wide, so that they stand for everybody who is blocked.
const EVERYBODY: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// Everything that is said.
pub(crate) struct Outcomes {
    pub(crate) counters: Counters,
    /// `None`: nobody reads them, for a command has its own answer.
    records: Option<Sender<Written>>,
    writer: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
    /// Records go to standard output, and not into a log.
    is_pipe: bool,
    complaints: Complaints,
    host: Option<String>,
    /// Rung, it says that a reader who does not read is not waited for.
    stopper: Bell,
}

/// What is to be written.
enum Written {
    /// And why somebody is blocked, for the journal of systemd.
    Record(Box<Record>, String),
    /// A record's line as it was read.
    Passed(Box<Record>, Vec<u8>),
}

/// What the engine and the writer share.
struct Shared {
    waiting: AtomicUsize,
    /// What the sink counts, and why the last record could not be written, where that does not end the work.
    sink: Mutex<(SinkCounts, Option<String>)>,
    /// Why nothing can be written any more.
    broken: OnceLock<Arc<io::Error>>,
}

impl Sink {
    /// The log of `--log`, or else standard output.
    ///
    /// # Errors
    /// When it cannot be written, or somebody else writes the log.
    pub(crate) fn open(flags: &Flags) -> Result<Self, Error> {
        let Some(settings) = &flags.log else {
            let output = Output::stdout("psentry-block");
            return output.map(Sink::Stdout).map_err(|why| Error::Output(Arc::new(why)));
        };
        let LogRate(rate) = flags.log_rate.unwrap_or(LogRate(Some(settings.default_rate())));
        let opened = Log::open(settings.clone(), rate, "psentry-block", Instant::now());
        opened.map(|log| Sink::Log(Box::new(log))).map_err(Error::file(&settings.path, "write the log"))
    }

    /// What it counts, and why the last record could not be written.
    fn state(&self) -> (SinkCounts, Option<String>) {
        let (lost, log, failure) = match self {
            Sink::Stdout(output) => (output.lost(), LogCounts::default(), output.failure()),
            Sink::Log(log) => (log.lost(), log.counts(), log.failure()),
        };
        (SinkCounts { lost, log }, failure.map(str::to_owned))
    }
}

impl Outcomes {
    /// To a sink, in the name of `host`; `asked` is readable when somebody asks to stop, and `bell` rings when nothing can be
    /// written any more.
    ///
    /// # Errors
    /// When no descriptor or thread is to be had.
    pub(crate) fn new(
        sink: Option<Sink>,
        host: Option<String>,
        asked: BorrowedFd<'_>,
        bell: Bell,
    ) -> Result<Self, Error> {
        let stopper = Bell::new().map_err(Error::system("open an eventfd"))?;
        // Readable from the moment the program is asked to stop, or stops for a reason of its own.
        let watch = || -> nix::Result<Epoll> {
            let stop = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
            stop.add(asked, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
            stop.add(&stopper, EpollEvent::new(EpollFlags::EPOLLIN, 1))?;
            Ok(stop)
        };
        let stop = watch().map_err(|errno| Error::system("wait for signals")(errno.into()))?;
        let shared = Arc::new(Shared {
            waiting: AtomicUsize::new(0),
            // A log that could not be opened is known before the first record is lost.
            sink: Mutex::new(sink.as_ref().map(Sink::state).unwrap_or_default()),
            broken: OnceLock::new(),
        });
        let is_pipe = matches!(sink, Some(Sink::Stdout(_)));
        let (mut records, mut thread) = (None, None);
        if let Some(sink) = sink {
            let journal = journald::open();
            let (sender, waiting) = channel();
            let writer = Writer {
                sink,
                journal,
                waiting,
                shared: Arc::clone(&shared),
                bell,
                stop,
                _stopper: stopper.clone(),
            };
            let started = thread::Builder::new().name("records".to_owned()).spawn(move || writer.run());
            thread = Some(started.map_err(Error::system("start a thread"))?);
            records = Some(sender);
        }
        Ok(Outcomes {
            counters: Counters::default(),
            records,
            writer: thread,
            shared,
            is_pipe,
            complaints: Complaints::new("psentry-block"),
            host,
            stopper,
        })
    }

    /// Writes an outcome, and gives it as a line for whoever asked on the control socket; of which verdict, `common` tells.
    pub(crate) fn outcome(&mut self, common: &Common, body: OutcomeBody) -> Record {
        self.explained(common, body, None)
    }

    /// The same of a block, which says why to the journal of systemd.
    pub(crate) fn explained(&mut self, common: &Common, body: OutcomeBody, block: Option<&Block>) -> Record {
        self.counters.outcome(body.result);
        let common = Common { timestamp: Timestamp::now(), host: self.host.clone(), ..common.clone() };
        let record = Record::Outcome(Outcome { common, body });
        let because = block.map_or_else(String::new, journald::because);
        self.write(Written::Record(Box::new(record.clone()), because));
        record
    }

    /// In whose name records are.
    pub(crate) fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// Writes the counters; `blocks` are wanted now, and `waiting` operations wait for a backend.
    pub(crate) fn stats(&mut self, blocks: usize, waiting: usize) {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let common = Common { host: self.host.clone(), ..Common::at(Timestamp::now()) };
        let body = self.counters.body(&self.sink().0, count(blocks), count(waiting));
        self.write(Written::Record(Box::new(Record::Stats(Stats { common, body })), String::new()));
    }

    /// Passes on a record's line as it was read.
    pub(crate) fn pass(&mut self, record: Record, line: Vec<u8>) {
        self.write(Written::Passed(Box::new(record), line));
    }

    fn write(&mut self, written: Written) {
        if let Some(records) = &self.records {
            self.shared.waiting.fetch_add(1, Ordering::Relaxed);
            let _ = records.send(written);
        }
    }

    fn sink(&self) -> (SinkCounts, Option<String>) {
        self.shared.sink.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether too many records wait.
    pub(crate) fn is_behind(&self) -> bool {
        self.shared.waiting.load(Ordering::Relaxed) > WAITING
    }

    /// Why records are being lost: the disk that they are written to is full; `None`: they are not.
    pub(crate) fn unwritten(&self) -> Option<String> {
        self.sink().1
    }

    /// What tells whether anything waits to be written to a pipe, which is as slow as its reader.
    pub(crate) fn awaits_reader(&self) -> impl Fn() -> bool + Send + 'static {
        let (shared, is_pipe) = (Arc::clone(&self.shared), self.is_pipe);
        move || is_pipe && shared.waiting.load(Ordering::Relaxed) > 0
    }

    /// Complains on standard error, in a whole sentence.
    pub(crate) fn complain(&mut self, sentence: &str) {
        self.complaints.say(sentence);
    }

    /// Complains about a line of the input.
    pub(crate) fn skipped(&mut self, line: u64, malformed: &Malformed) {
        self.counters.skipped += 1;
        self.complaints.skipped(line, malformed);
    }

    /// Reports something that is no complaint, and so is not limited in number.
    pub(crate) fn report(&self, sentence: &str) {
        report(sentence);
    }

    /// Why nothing can be written any more, if so.
    pub(crate) fn broken(&self) -> Option<Error> {
        self.shared.broken.get().map(|why| Error::Output(Arc::clone(why)))
    }

    /// Nobody reads any more.
    pub(crate) fn reader_gone(&self) {
        let _ = self.shared.broken.set(Arc::new(io::ErrorKind::BrokenPipe.into()));
    }

    /// From now on a reader that does not read is not waited for.
    pub(crate) fn stop_waiting(&mut self) {
        self.stopper.ring();
    }

    /// Writes what waits, and ends.
    pub(crate) fn finish(&mut self) {
        self.records = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// Reports something on standard error, unless that would wait: a terminal that is paused must not stop the engine.
pub(crate) fn report(sentence: &str) {
    speak(&format!("psentry-block: {sentence}"));
}

/// The thread that writes records.
struct Writer {
    sink: Sink,
    journal: Option<Journal>,
    waiting: Receiver<Written>,
    shared: Arc<Shared>,
    bell: Bell,
    stop: Epoll,
    _stopper: Bell,
}

impl Writer {
    fn run(mut self) {
        let mut ready: VecDeque<Written> = VecDeque::new();
        while let Some(written) = ready.pop_front().or_else(|| self.waiting.recv().ok()) {
            ready.extend(self.waiting.try_iter());
            let result = if self.shared.broken.get().is_some() { Ok(()) } else { self.write(&written) };
            self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
            if let Err(why) = result {
                let _ = self.shared.broken.set(Arc::new(why));
                self.bell.ring();
            }
        }
    }

    fn write(&mut self, written: &Written) -> io::Result<()> {
        match (&mut self.journal, written) {
            (Some(journal), Written::Record(record, _)) if matches!(**record, Record::Stats(_)) => {
                journal.report_left_out();
            }
            (Some(journal), Written::Record(record, because)) => journald::write(journal, record, because),
            _ => {}
        }
        let (patience, now) = (Patience::Until(self.stop.0.as_fd()), Instant::now());
        let result = match (&mut self.sink, written) {
            (Sink::Stdout(output), Written::Record(record, _)) => output.write(patience, record),
            (Sink::Stdout(output), Written::Passed(_, line)) => output.pass(patience, line),
            (Sink::Log(log), Written::Record(record, _)) => log.write(record, now),
            (Sink::Log(log), Written::Passed(record, line)) => {
                log.pass(record, line, now);
                Ok(())
            }
        };
        *self.shared.sink.lock().unwrap_or_else(PoisonError::into_inner) = self.sink.state();
        result
    }
}

/// What a block says of the contact that convicted its source.
pub(crate) fn common_of(block: &Block, at: Timestamp) -> Common {
    let (src_ip, dest_port, proto) = (block.addr, block.port, block.proto);
    Common { src_ip, dest_port, proto, ..Common::at(at) }
}

/// A block as it is listed: all that is known of it, with why it is not there, if it is not.
pub(crate) fn listed(scope: Prefix, backend: &str, block: &Block, missing: Option<String>) -> Record {
    let common =
        Common { proto: block.proto.filter(|_| !block.ports.is_empty()), ..Common::at(Timestamp::now()) };
    let result = if missing.is_none() { OutcomeResult::Already } else { OutcomeResult::Failed };
    let body = OutcomeBody {
        until: block.until,
        error: missing,
        rule: block.rule.clone(),
        reason: block.reason.clone(),
        since: block.since,
        ports: block.ports.clone(),
        handshake: block.unproven.then_some(false),
        ..OutcomeBody::new(Action::Block, scope, Some(backend), result)
    };
    Record::Outcome(Outcome { common, body })
}

/// That a block was released.
pub(crate) fn released(scope: Prefix) -> OutcomeBody {
    OutcomeBody::new(Action::Unblock, scope, None, OutcomeResult::Released)
}

/// An outcome of now as a record, in the name of `host`.
pub(crate) fn outcome(body: OutcomeBody, host: Option<&str>) -> Record {
    let common = Common { host: host.map(str::to_owned), ..Common::at(Timestamp::now()) };
    Record::Outcome(Outcome { common, body })
}

/// That everybody was released; why.
pub(crate) fn everybody(why: &str) -> impl Iterator<Item = OutcomeBody> {
    let scopes = EVERYBODY.into_iter().filter_map(|scope| scope.parse().ok());
    scopes.map(move |scope| OutcomeBody {
        error: Some(why.to_owned()),
        ..OutcomeBody::new(Action::Unblock, scope, None, OutcomeResult::Released)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_all_addresses() {
        let scopes: Vec<String> = everybody("x").map(|body| body.scope.to_string()).collect();
        assert_eq!(scopes, EVERYBODY);
    }
}
