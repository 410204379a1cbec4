//! Standard input, as the monitor reads it: records of `vouch`, which only root may write there. It decides nothing.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use psentry_records::{Malformed, Reader, Record, Vouch};

/// Standard input, until it ends.
pub(crate) struct VouchInput {
    reader: Reader<File>,
    ended: bool,
}

/// A line of the input.
#[derive(Debug, PartialEq)]
pub(crate) enum Line {
    /// A vouch.
    Vouch(Box<Vouch>),
    /// No record, or not of a vouch: its number, and what is wrong with it.
    Skipped(u64, Malformed),
    /// A record of another kind, and its number.
    NoVouch(u64),
}

impl VouchInput {
    /// Standard input; `None`: it is a terminal, from which a program in the background must not read.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub(crate) fn stdin() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            return Ok(None);
        }
        // A program that is started without one has nobody who vouches.
        let Ok(stdin) = stdin.as_fd().try_clone_to_owned() else { return Ok(None) };
        Ok(Some(VouchInput { reader: Reader::new(File::from(stdin)), ended: false }))
    }

    /// What to wait for: standard input is readable.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.source().as_fd()
    }

    /// Whether [`fill`](VouchInput::fill) would not wait.
    pub(crate) fn is_ready(&self) -> bool {
        !self.ended
            && poll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO)
                .is_ok_and(|ready| ready > 0)
    }

    /// Whether nothing comes any more.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// A line that was read before.
    pub(crate) fn line(&mut self) -> Option<Line> {
        let item = self.reader.held()?;
        Some(match item.record {
            Ok(Record::Vouch(vouch)) => Line::Vouch(Box::new(vouch)),
            Ok(_) => Line::NoVouch(item.line),
            Err(malformed) => Line::Skipped(item.line, malformed),
        })
    }

    /// Reads once. Waits, unless standard input is readable.
    ///
    /// # Errors
    /// What read(2) says.
    pub(crate) fn fill(&mut self) -> io::Result<()> {
        match self.reader.fill() {
            Ok(more) => self.ended = !more,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                self.ended = true;
                return Err(error);
            }
        }
        Ok(())
    }
}
