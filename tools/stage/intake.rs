//! Records from standard input, one at a time, until it ends, the program is asked to stop, or nobody reads what it
//! writes any more. Asked to stop, it still takes what waits in the pipe, for a while: a restart loses nothing.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use psentry_records::{Item, MAX_LINE, Malformed, Reader, Record};

use crate::{Patience, Request, Signals, Stop};

/// After Ctrl-C, how long a stage waits for the end of what the stages before it still write.
const GRACE: Duration = Duration::from_secs(1);

/// For how long a stage that is asked to stop takes what waits. An input that never runs dry must not keep it alive.
const DRAIN: Duration = Duration::from_secs(2);

/// Standard input, read as records, with the signals of the program.
pub struct Intake {
    reader: Reader<File>,
    /// Standard output, polled only to see that its reader is gone; `None`: nothing is written there.
    output: Option<File>,
    signals: Signals,
    /// Readable when there is something else to do for the caller, such as a request on a control socket.
    bells: Vec<OwnedFd>,
    stopping: Option<Stopping>,
    requests: Requests,
    ended: bool,
}

/// What signals asked for, besides the end, since [`Intake::requests`] was last called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// To read the configuration again.
    pub reload: bool,
    /// To report: counters, as a `stats` record.
    pub report: bool,
}

/// How much longer a program that was asked to stop goes on.
#[derive(Clone, Copy)]
struct Stopping {
    /// Until when it waits for more input.
    wait: Instant,
    /// Until when it reads what waits already.
    read: Instant,
    /// How many bytes it reads after that, to the end of a line whose beginning was read: no more than a line may have.
    rest: usize,
}

/// What poll(2) returned.
struct Seen {
    readable: bool,
    signalled: bool,
    rung: bool,
    reader_gone: bool,
}

/// What [`Intake::next`] found.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // made once a record and consumed at once: a box would only cost
pub enum Next<T = Record> {
    /// A line of the input.
    Item(Item<T>),
    /// Nothing, for as long as was asked for, or until a signal asked for something that is no end
    /// ([`Intake::requests`] says what), or the bell was rung ([`Intake::heed_bell`]).
    Nothing,
    /// The input has ended; nothing more will come.
    End,
    /// The program was asked to stop, and nothing waits any more.
    Stop,
    /// Nobody reads standard output any more: the next stage has ended.
    ReaderGone,
}

impl Intake {
    /// Standard input, and the signals that end it.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn stdin(signals: Signals) -> io::Result<Self> {
        let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Intake {
            reader: Reader::new(stdin),
            output: Some(output),
            signals,
            bells: Vec::new(),
            stopping: None,
            requests: Requests::default(),
            ended: false,
        })
    }

    /// From now on it is no matter whether anybody reads standard output: nothing is written there.
    pub fn ignore_output(&mut self) {
        self.output = None;
    }

    /// From now on waiting ends with [`Next::Nothing`], too, when `bell` is readable, which the caller then sees to.
    pub fn heed_bell(&mut self, bell: OwnedFd) {
        self.bells.push(bell);
    }

    /// The next record, or what else there is to know; waits at most `patience` (`None`: for ever).
    ///
    /// # Errors
    /// What poll(2) and read(2) say.
    pub fn next(&mut self, patience: Option<Duration>) -> io::Result<Next> {
        self.next_as(patience, Record::parse)
    }

    /// The same for a caller who reads lines in a way of its own, which must take what [`Record::parse`] takes.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn next_as<T>(
        &mut self,
        patience: Option<Duration>,
        read: impl Fn(&str) -> Result<T, Malformed>,
    ) -> io::Result<Next<T>> {
        loop {
            if let Some(item) = self.reader.buffered_as(&read) {
                return Ok(Next::Item(item));
            }
            let now = Instant::now();
            // A line whose beginning was read is read to its end, however late that is on a busy machine: whoever reads on
            // after us could not. A writer writes a line in one piece, so the rest waits already, or never comes.
            let over = self.stopping.as_mut().filter(|stopping| stopping.read <= now);
            if self.ended || over.as_ref().is_some_and(|over| over.rest == 0 || !self.reader.is_cut()) {
                return Ok(if self.stopping.is_some() { Next::Stop } else { Next::End });
            }
            let over = over.map(|over| over.rest -= 1).is_some();
            let grace = self.stopping.map(|stopping| stopping.wait.saturating_duration_since(now));
            let seen = self.wait(grace.or(patience), true)?;
            if seen.reader_gone {
                return Ok(Next::ReaderGone);
            }
            if seen.signalled {
                self.take_signal();
                if self.requests != Requests::default() {
                    return Ok(Next::Nothing);
                }
            } else if seen.readable {
                self.ended = !if over { self.reader.fill_one()? } else { self.reader.fill()? };
            } else if seen.rung {
                return Ok(Next::Nothing);
            } else {
                return Ok(if grace.is_some() { Next::Stop } else { Next::Nothing });
            }
        }
    }

    /// After [`Next::End`]: waits for a signal, or for the reader of standard output to go, at most `patience`.
    ///
    /// # Errors
    /// What poll(2) says.
    pub fn linger(&mut self, patience: Option<Duration>) -> io::Result<Next> {
        let seen = self.wait(patience, false)?;
        if seen.signalled {
            self.take_signal();
        }
        Ok(match (seen.reader_gone, self.stopping) {
            (true, _) => Next::ReaderGone,
            (false, Some(_)) => Next::Stop,
            (false, None) => Next::Nothing,
        })
    }

    /// What signals asked for since the last call, besides the end. Only of [`Signals::catch_requests`].
    pub fn requests(&mut self) -> Requests {
        std::mem::take(&mut self.requests)
    }

    /// The very bytes of the item that came last, without the newline.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        self.reader.raw()
    }

    /// How long to wait for a reader of what is written.
    #[must_use]
    pub fn patience(&self) -> Patience<'_> {
        if self.stopping.is_some() { Patience::Grace } else { Patience::Until(self.signals.stop()) }
    }

    /// Reads a signal and keeps what it asks for; a second one that asks to stop ends all waiting and reading.
    fn take_signal(&mut self) {
        let now = Instant::now();
        let (wait, read) = match (self.signals.request(), &self.stopping) {
            (None, _) => return,
            (Some(Request::Reload), _) => return self.requests.reload = true,
            (Some(Request::Report), _) => return self.requests.report = true,
            (Some(Request::Stop(Stop::Pipeline)), None) => (now + GRACE, now + DRAIN),
            (Some(Request::Stop(Stop::Alone)), None) => (now, now + DRAIN),
            (Some(Request::Stop(_)), Some(_)) => (now, now),
        };
        self.stopping = Some(Stopping { wait, read, rest: MAX_LINE });
    }

    /// Waits for something to happen.
    fn wait(&self, patience: Option<Duration>, input: bool) -> io::Result<Seen> {
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        // Asked for nothing, a pipe without a reader still tells of its error.
        fds.extend(self.output.as_ref().map(|output| PollFd::new(output.as_fd(), PollFlags::empty())));
        fds.extend(self.bells.iter().map(|bell| PollFd::new(bell.as_fd(), PollFlags::POLLIN)));
        fds.extend(input.then(|| PollFd::new(self.reader.source().as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, timeout(patience)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut seen = fds.iter().map(PollFd::any);
        let mut next = |unclear| seen.next().map(|any| any.unwrap_or(unclear));
        Ok(Seen {
            signalled: next(true) == Some(true),
            reader_gone: self.output.is_some() && next(false) == Some(true),
            // All of them are seen, for the last one is standard input.
            rung: self.bells.iter().filter(|_| next(true) == Some(true)).count() > 0,
            // Whatever poll says of standard input, an error or a hang-up too, read(2) tells the rest.
            readable: input && next(true) == Some(true),
        })
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// An intake whose time to read was over long ago, and the other end of its pipe.
    fn overdue() -> (Intake, io::PipeWriter) {
        let (input, writer) = io::pipe().unwrap();
        let long_ago = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
        let intake = Intake {
            reader: Reader::new(File::from(OwnedFd::from(input))),
            output: None,
            signals: Signals::catch().unwrap(),
            bells: Vec::new(),
            stopping: Some(Stopping { wait: long_ago, read: long_ago, rest: MAX_LINE }),
            requests: Requests::default(),
            ended: false,
        };
        (intake, writer)
    }

    #[test]
    fn a_line_that_was_begun_is_read_to_its_end_however_late() {
        let (mut intake, mut writer) = overdue();
        writer.write_all(b"{\"timestamp\":\"2026-11-22T15:04:05Z\",").unwrap();
        assert!(intake.reader.fill().unwrap());
        writer.write_all(b"\"event_type\":\"alert\"}\n{\"timestamp\":").unwrap();
        let other = Record::Other("alert".to_owned());
        assert!(
            matches!(intake.next(None).unwrap(), Next::Item(Item { record: Ok(record), .. }) if record == other)
        );
        // The next line is for whoever reads on.
        assert!(matches!(intake.next(None).unwrap(), Next::Stop));
    }

    #[test]
    fn a_line_without_an_end_is_not_read_for_ever() {
        let (mut intake, mut writer) = overdue();
        writer.write_all(b"x").unwrap();
        assert!(intake.reader.fill().unwrap());
        writer.write_all(&[b'x'; 3 * MAX_LINE]).unwrap();
        assert!(matches!(intake.next(None).unwrap(), Next::Item(Item { record: Err(_), .. }) | Next::Stop));
        assert!(matches!(intake.next(None).unwrap(), Next::Stop));
        // And one that never comes is not waited for.
        let (mut intake, mut writer) = overdue();
        writer.write_all(b"x").unwrap();
        assert!(intake.reader.fill().unwrap());
        assert!(matches!(intake.next(None).unwrap(), Next::Stop));
    }
}
