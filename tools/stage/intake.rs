//! Records from standard input, one at a time, until it ends or the program is asked to stop. Asked to stop, it
//! still takes what waits in the pipe: a restart loses nothing.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use psentry_records::{Item, Reader};

use crate::{Signals, Stop};

/// After Ctrl-C, how long a stage waits for the end of what the stages before it still write.
const GRACE: Duration = Duration::from_secs(1);

/// Standard input as records.
pub struct Intake {
    reader: Reader<File>,
    signals: Signals,
    /// Asked to stop, and until when to wait for more input.
    stopping: Option<Instant>,
    ended: bool,
}

/// What came.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // made once a record and consumed at once: a box would only cost
pub enum Next {
    /// A line of the input.
    Item(Item),
    /// Nothing, for as long as was asked for.
    Nothing,
    /// The input has ended; nothing more will come.
    End,
    /// The program was asked to stop, and nothing waits any more.
    Stop,
}

impl Intake {
    /// Standard input, and the signals that end it.
    ///
    /// # Errors
    /// When standard input is closed.
    pub fn stdin(signals: Signals) -> io::Result<Self> {
        let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        Ok(Intake { reader: Reader::new(stdin), signals, stopping: None, ended: false })
    }

    /// The next record, or what else there is to know; waits at most `patience` (`None`: for ever).
    ///
    /// # Errors
    /// What poll(2) and read(2) say.
    pub fn next(&mut self, patience: Option<Duration>) -> io::Result<Next> {
        loop {
            if let Some(item) = self.reader.held() {
                return Ok(Next::Item(item));
            }
            if self.ended {
                return Ok(if self.stopping.is_some() { Next::Stop } else { Next::End });
            }
            let grace = self.stopping.map(|until| until.saturating_duration_since(Instant::now()));
            let (readable, signalled) = self.wait(grace.or(patience), true)?;
            if signalled {
                self.heed();
            }
            if readable {
                self.ended = !self.reader.fill()?;
            } else if grace.is_some() && !signalled {
                return Ok(Next::Stop);
            } else if !signalled {
                return Ok(Next::Nothing);
            }
        }
    }

    /// After [`Next::End`]: waits for a signal, at most `patience`. `true`: one came.
    ///
    /// # Errors
    /// What poll(2) says.
    pub fn linger(&mut self, patience: Option<Duration>) -> io::Result<bool> {
        let (_, signalled) = self.wait(patience, false)?;
        if signalled {
            self.heed();
        }
        Ok(self.stopping.is_some())
    }

    /// The very bytes of the item that came last, without the newline.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        self.reader.raw()
    }

    /// Takes note of a signal; a second one ends the grace that the first one gave.
    fn heed(&mut self) {
        let grace = match (self.signals.asked(), self.stopping) {
            (None, _) => return,
            (Some(Stop::Pipeline), None) => GRACE,
            _ => Duration::ZERO,
        };
        self.stopping = Some(Instant::now() + grace);
    }

    /// Whether there is something to read, and whether a signal came.
    fn wait(&self, patience: Option<Duration>, input: bool) -> io::Result<(bool, bool)> {
        let stdin = if input { PollFlags::POLLIN } else { PollFlags::empty() };
        let mut fds = [
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.reader.source().as_fd(), stdin),
        ];
        let watched = if input { &mut fds[..] } else { &mut fds[..1] };
        match poll(watched, timeout(patience)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        // Whatever poll says of standard input, an error or a hang-up too, read(2) tells the rest.
        Ok((input && fds[1].any().unwrap_or(true), fds[0].any().unwrap_or(true)))
    }
}

/// poll(2)'s milliseconds, rounded up, so that waiting for a deadline never spins just before it.
fn timeout(patience: Option<Duration>) -> PollTimeout {
    match patience {
        None => PollTimeout::NONE,
        Some(patience) => {
            let millis = patience.as_nanos().div_ceil(1_000_000);
            i32::try_from(millis)
                .ok()
                .and_then(|ms| PollTimeout::try_from(ms).ok())
                .unwrap_or(PollTimeout::MAX)
        }
    }
}
