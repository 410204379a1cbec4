//! Records to standard output. A reader that is slow is waited for, but not beyond a request to stop: then it has a
//! short grace, and what it does not take by then is an error. A full disk is none: what a regular file does not take is
//! lost, counted and reported, as `line_file.rs` says.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use psentry_records::{Record, Writer};

use crate::{LineFile, speak};

/// How long a stopping program waits for a reader that does not read. Systemd would wait 90 s and then kill.
const GRACE: Duration = Duration::from_secs(2);

/// Standard output, one write(2) a record.
pub struct Output {
    program: &'static str,
    writer: Writer<Sink>,
}

/// What standard output is.
enum Sink {
    /// A pipe, a terminal, or anything else that a write(2) either writes to, or is an error.
    Stream(File),
    Disk(LineFile),
}

/// How long a reader that does not read is waited for.
#[derive(Clone, Copy)]
pub enum Patience<'a> {
    /// Until this is readable, because somebody asks the program to stop, and then for the grace.
    Until(BorrowedFd<'a>),
    /// For the grace: the program is stopping.
    Grace,
}

impl Output {
    /// Standard output, without a buffer. What a full disk loses is reported in the name of `program`.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn stdout(program: &'static str) -> io::Result<Self> {
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let sink = if file.metadata()?.is_file() {
            Sink::Disk(LineFile::new(file, "standard output"))
        } else {
            Sink::Stream(file)
        };
        Ok(Output { program, writer: Writer::new(sink) })
    }

    /// How many records a full disk has not taken.
    #[must_use]
    pub fn lost(&self) -> u64 {
        match self.writer.sink() {
            Sink::Stream(_) => 0,
            Sink::Disk(file) => file.lost(),
        }
    }

    /// Why the last record was lost; `None`: it was not.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        match self.writer.sink() {
            Sink::Stream(_) => None,
            Sink::Disk(file) => file.failure(),
        }
    }

    /// Writes one record.
    ///
    /// # Errors
    /// `BrokenPipe` when the reader is gone, `TimedOut` when patience is over, and what write(2) says.
    pub fn write(&mut self, patience: Patience<'_>, record: &Record) -> io::Result<()> {
        self.put(patience, |writer| writer.write(record))
    }

    /// Passes on a line as it was read.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn pass(&mut self, patience: Patience<'_>, line: &[u8]) -> io::Result<()> {
        self.put(patience, |writer| writer.pass(line))
    }

    /// Writes one record; a signal on `stop` ends the waiting for the reader.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_unless(&mut self, stop: BorrowedFd<'_>, record: &Record) -> io::Result<()> {
        self.write(Patience::Until(stop), record)
    }

    fn put(
        &mut self,
        patience: Patience<'_>,
        mut write: impl FnMut(&mut Writer<Sink>) -> io::Result<()>,
    ) -> io::Result<()> {
        loop {
            // Where there is room at all there is room for a record: a pipe has room by the page (pipe(7)).
            if !self.has_room(PollTimeout::ZERO)? {
                self.wait(patience)?;
            }
            match write(&mut self.writer) {
                // Somebody made the pipe non-blocking and another writer was faster.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => {
                    self.report_losses();
                    return result;
                }
            }
        }
    }

    fn report_losses(&mut self) {
        if let Sink::Disk(file) = self.writer.sink_mut()
            && let Some(sentence) = file.report()
        {
            speak(&format!("{}: {sentence}", self.program));
        }
    }

    /// Waits until there is room, or patience is over.
    fn wait(&self, patience: Patience<'_>) -> io::Result<()> {
        if let Patience::Until(stop) = patience {
            let mut fds = [self.room(), PollFd::new(stop, PollFlags::POLLIN)];
            wait(&mut fds, PollTimeout::NONE)?;
            if fds[0].any().unwrap_or(true) {
                return Ok(());
            }
        }
        if self.has_room(PollTimeout::try_from(GRACE).unwrap_or(PollTimeout::MAX))? {
            return Ok(());
        }
        let late = "the reader of standard output did not read while psentry was stopping";
        Err(io::Error::new(io::ErrorKind::TimedOut, late))
    }

    /// Whether there is room for a record, or an error to be had by writing.
    fn has_room(&self, patience: PollTimeout) -> io::Result<bool> {
        let mut fds = [self.room()];
        wait(&mut fds, patience)?;
        Ok(fds[0].any().unwrap_or(true))
    }

    fn room(&self) -> PollFd<'_> {
        PollFd::new(self.writer.sink().as_fd(), PollFlags::POLLOUT)
    }
}

impl Drop for Output {
    /// The last word about what was lost.
    fn drop(&mut self) {
        if let Sink::Disk(file) = self.writer.sink()
            && let Some(sentence) = file.summary()
        {
            speak(&format!("{}: {sentence}", self.program));
        }
    }
}

impl AsFd for Sink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Sink::Stream(file) => file.as_fd(),
            Sink::Disk(file) => file.as_fd(),
        }
    }
}

/// Takes whole lines only, as [`Writer`] writes them.
impl Write for Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self {
            Sink::Stream(file) => file.write(line),
            Sink::Disk(file) => file.write_line(line, Instant::now()).map(|()| line.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
