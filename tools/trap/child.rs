//! The reader, as the warden sees it: a process whose end is something to poll(2) for, and that ends when asked.

use std::io::{self, PipeReader};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use psentry_stage::Exit;

/// How long a reader that is asked to end may take. It takes two seconds at most for what waits, and as long for a
/// reader of its own that does not read.
const PATIENCE: Duration = Duration::from_secs(6);

/// A running reader.
pub(crate) struct Child {
    pid: Pid,
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
    NobodyReads,
    /// In another way, described.
    Badly(String),
}

impl Child {
    /// Starts it. Must be called from the main thread: the child ends when the thread that started it does.
    ///
    /// # Errors
    /// What fork(2) and execve(2) say.
    pub(crate) fn start(mut command: Command) -> io::Result<Self> {
        let (end, open) = io::pipe()?;
        let mut child = command.spawn()?;
        let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
        let (tell, status) = mpsc::channel();
        thread::Builder::new().name("wait".to_owned()).spawn(move || {
            // Whoever asks is told first, and woken up then.
            let _ = tell.send(child.wait());
            drop(open);
        })?;
        Ok(Child { pid, end, status })
    }

    /// Asks it to end, unless it has, and waits for it. One that takes too long is killed.
    pub(crate) fn end(&mut self) -> Ended {
        if let Ok(status) = self.status.try_recv() {
            return ended(status);
        }
        for (signal, patience) in [(Signal::SIGTERM, PATIENCE), (Signal::SIGKILL, PATIENCE)] {
            let _ = kill(self.pid, signal);
            if let Ok(status) = self.status.recv_timeout(patience) {
                return ended(status);
            }
        }
        Ended::Badly("it cannot be killed".to_owned())
    }
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }
}

fn ended(status: io::Result<ExitStatus>) -> Ended {
    match status {
        Ok(status) if status.success() => Ended::Well,
        Ok(status) if status.code() == Some(Exit::Io as i32) => Ended::NobodyReads,
        Ok(status) => Ended::Badly(status.to_string()),
        Err(error) => Ended::Badly(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    fn sh(script: &str) -> Child {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        Child::start(command).unwrap()
    }

    #[test]
    fn an_end_is_seen_and_told() {
        for (script, want) in [
            ("exit 0", Ended::Well),
            ("exit 74", Ended::NobodyReads),
            ("exit 3", Ended::Badly("exit status: 3".to_owned())),
        ] {
            let mut child = sh(script);
            let ready = poll(&mut [PollFd::new(child.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
            assert_eq!((ready, child.end()), (Ok(1), want));
        }
    }

    #[test]
    fn it_ends_when_asked() {
        let mut child = sh("trap 'exit 0' TERM; while :; do sleep 0.01; done");
        let early = poll(&mut [PollFd::new(child.as_fd(), PollFlags::POLLIN)], PollTimeout::from(50u8));
        assert_eq!((early, child.end()), (Ok(0), Ended::Well));
    }
}
