//! Records to standard output. A reader that is slow is waited for, but not beyond a signal to stop: then the
//! reader has a short grace, and what it does not take is an error.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use psentry_records::{Record, Writer};

/// How long a stopping program waits for a reader that does not read. Systemd would wait 90 s and then kill.
const GRACE: Duration = Duration::from_secs(2);

/// Standard output as records.
pub struct Output {
    writer: Writer<File>,
}

impl Output {
    /// Standard output, without a buffer.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn stdout() -> io::Result<Self> {
        Ok(Output { writer: Writer::new(File::from(io::stdout().as_fd().try_clone_to_owned()?)) })
    }

    /// Writes one record, waiting for the reader as long as it takes.
    ///
    /// # Errors
    /// `BrokenPipe` when the reader is gone, and what write(2) says.
    pub fn write(&mut self, record: &Record) -> io::Result<()> {
        self.patiently(|writer| writer.write(record))
    }

    /// Passes on a line as it was read, waiting for the reader as long as it takes.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn pass(&mut self, line: &[u8]) -> io::Result<()> {
        self.patiently(|writer| writer.pass(line))
    }

    fn patiently(&mut self, mut put: impl FnMut(&mut Writer<File>) -> io::Result<()>) -> io::Result<()> {
        loop {
            match put(&mut self.writer) {
                // Somebody made the pipe non-blocking; a record then goes whole or not at all.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.writable(PollTimeout::NONE)?
                }
                result => return result,
            };
        }
    }

    /// Writes one record; if the reader does not read, a signal on `stop` ends the waiting after a short grace.
    ///
    /// # Errors
    /// As [`write`](Self::write), and `TimedOut` when the grace is over.
    pub fn write_unless(&mut self, stop: BorrowedFd<'_>, record: &Record) -> io::Result<()> {
        if !self.writable(PollTimeout::ZERO)? {
            let mut fds = [
                PollFd::new(self.writer.sink().as_fd(), PollFlags::POLLOUT),
                PollFd::new(stop, PollFlags::POLLIN),
            ];
            wait(&mut fds, PollTimeout::NONE)?;
            let grace = PollTimeout::try_from(GRACE).unwrap_or(PollTimeout::MAX);
            if !fds[0].any().unwrap_or(true) && !self.writable(grace)? {
                let late = "the reader of standard output did not read while psentry was stopping";
                return Err(io::Error::new(io::ErrorKind::TimedOut, late));
            }
        }
        self.write(record)
    }

    fn writable(&self, patience: PollTimeout) -> io::Result<bool> {
        let mut fds = [PollFd::new(self.writer.sink().as_fd(), PollFlags::POLLOUT)];
        wait(&mut fds, patience)?;
        Ok(fds[0].any().unwrap_or(true))
    }
}

fn wait(fds: &mut [PollFd<'_>], patience: PollTimeout) -> io::Result<()> {
    loop {
        match poll(fds, patience) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// This machine's name, for the field `host`.
#[must_use]
pub fn host_name() -> Option<String> {
    nix::unistd::gethostname().ok()?.into_string().ok().filter(|name| !name.is_empty())
}
