//! The worker, as the monitor sees it: a process that gets reports, ends when asked, and whose end is something to
//! poll(2) for.

use std::io::{self, PipeReader};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use psentry_records::{StatsBody, Vouch};
use psentry_stage::Exit;

use crate::report::ReportSender;

/// How long a worker that is asked to end may take, and how long it may then take to die of SIGKILL. It needs two
/// seconds at most for what waits, and as long for a reader of its records that does not read.
const TIMEOUT: Duration = Duration::from_secs(6);

/// A running worker.
pub(crate) struct WorkerProcess {
    pid: Pid,
    /// Dropped with the last report, which asks the worker to end.
    reports: Option<ReportSender>,
    /// Readable once it has ended.
    end: PipeReader,
    status: Receiver<io::Result<ExitStatus>>,
}

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Because somebody asked it to.
    Well,
    /// Because nobody reads what it writes.
    OutputGone,
    /// In another way, described for a message.
    Badly(String),
}

impl WorkerProcess {
    /// Starts it. Must be called from the main thread: the worker ends when the thread that started it does.
    ///
    /// # Errors
    /// What fork(2) and execve(2) say.
    pub(crate) fn start(mut command: Command, reports: ReportSender) -> io::Result<Self> {
        let (end, open) = io::pipe()?;
        let mut child = command.spawn()?;
        let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
        let (sender, status) = mpsc::channel();
        thread::Builder::new().name("wait".to_owned()).spawn(move || {
            // The status first, so that it is there for whoever wakes up from the pipe's end.
            let _ = sender.send(child.wait());
            drop(open);
        })?;
        Ok(WorkerProcess { pid, reports: Some(reports), end, status })
    }

    /// Sends a report, for which the worker writes a `stats` record.
    pub(crate) fn report(&mut self, stats: StatsBody) {
        if let Some(reports) = &mut self.reports {
            reports.send(stats);
        }
    }

    /// Passes a vouch on, which the worker writes; `false`: not now, it has too much to read.
    pub(crate) fn pass(&mut self, vouch: &Vouch) -> bool {
        self.reports.as_mut().is_none_or(|reports| reports.pass(vouch))
    }

    /// Asks it to stop: it goes on reading packets until [`end`](Self::end), and waits no longer than its grace for a
    /// reader that does not read.
    pub(crate) fn ask_to_stop(&self) {
        let _ = kill(self.pid, Signal::SIGTERM);
    }

    /// Has it end, unless it has, and waits for it. A worker that takes too long is killed.
    pub(crate) fn end(&mut self) -> Ended {
        drop(self.reports.take());
        if let Ok(status) = self.status.try_recv() {
            return ended(status);
        }
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            let _ = kill(self.pid, signal);
            if let Ok(status) = self.status.recv_timeout(TIMEOUT) {
                return ended(status);
            }
        }
        Ended::Badly("it cannot be killed".to_owned())
    }
}

impl AsFd for WorkerProcess {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }
}

fn ended(status: io::Result<ExitStatus>) -> Ended {
    match status {
        Ok(status) if status.success() => Ended::Well,
        Ok(status) if status.code() == Some(Exit::Io as i32) => Ended::OutputGone,
        Ok(status) => Ended::Badly(status.to_string()),
        Err(error) => Ended::Badly(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    fn sh(script: &str) -> WorkerProcess {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        WorkerProcess::start(command, ReportSender::pipe().unwrap().0).unwrap()
    }

    #[test]
    fn how_it_ended_is_known() {
        for (script, want) in [
            ("exit 0", Ended::Well),
            ("exit 74", Ended::OutputGone),
            ("exit 3", Ended::Badly("exit status: 3".to_owned())),
        ] {
            let mut worker = sh(script);
            let ready = poll(&mut [PollFd::new(worker.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
            assert_eq!((ready, worker.end()), (Ok(1), want));
        }
    }

    #[test]
    fn it_ends_when_asked() {
        let mut worker = sh("trap 'exit 0' TERM; while :; do sleep 0.01; done");
        let early = poll(&mut [PollFd::new(worker.as_fd(), PollFlags::POLLIN)], PollTimeout::from(50u8));
        assert_eq!((early, worker.end()), (Ok(0), Ended::Well));
    }
}
