//! SIGTERM and SIGINT as something to poll(2) for, instead of handlers that interrupt anywhere.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Who is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SIGINT, from Ctrl-C: all programs of the pipeline, so that the ones before this one may still write.
    Pipeline,
    /// SIGTERM or SIGHUP: this program alone.
    Alone,
}

/// The signals that ask a program to end. Make it before any thread: threads inherit the mask.
pub struct Signals(SignalFd);

impl Signals {
    /// Holds back SIGTERM, SIGINT and SIGHUP from now on; programs started later get them as ever.
    ///
    /// # Errors
    /// signalfd(2)'s, which in practice means that no descriptor is left.
    pub fn catch() -> Result<Self, Errno> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGTERM);
        set.add(Signal::SIGINT);
        set.add(Signal::SIGHUP);
        set.thread_block()?;
        Ok(Signals(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?))
    }

    /// Whether one has come since the last call.
    pub fn came(&self) -> bool {
        self.asked().is_some()
    }

    /// Which one has come since the last call.
    pub fn asked(&self) -> Option<Stop> {
        let info = self.0.read_signal().ok().flatten()?;
        let interrupt = u32::try_from(Signal::SIGINT as i32) == Ok(info.ssi_signo);
        Some(if interrupt { Stop::Pipeline } else { Stop::Alone })
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
