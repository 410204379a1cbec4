//! SIGTERM, SIGINT, SIGHUP and SIGUSR1 as something to poll(2) for, instead of handlers that interrupt anywhere.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Which programs a signal asks to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SIGINT, from Ctrl-C: all programs of the pipeline, so that the ones before this one may still write.
    Pipeline,
    /// SIGTERM or SIGHUP: this program alone.
    Alone,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// To end, in good order.
    Stop(Stop),
    /// SIGHUP, of a program that catches it so: to read its configuration again.
    Reload,
    /// SIGUSR1, of a program that catches it: to say how it is.
    Report,
}

/// The signals that ask a program for something. Make it before any thread: threads inherit the mask.
pub struct Signals {
    fd: SignalFd,
    reloads: bool,
}

impl Signals {
    /// Holds back SIGTERM, SIGINT and SIGHUP from now on, but for those that whoever started the program had it
    /// ignore, as nohup(1) and a shell's background jobs do. Programs started later get them as ever.
    ///
    /// # Errors
    /// signalfd(2)'s, which in practice means that no descriptor is left.
    pub fn catch() -> Result<Self, Errno> {
        Self::hold_back(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP], false)
    }

    /// The same for a program that can say how it is, which SIGUSR1 asks for. When it `reloads`, SIGHUP asks it to
    /// read its configuration again, and no longer to end.
    ///
    /// # Errors
    /// As [`catch`](Self::catch).
    pub fn catch_requests(reloads: bool) -> Result<Self, Errno> {
        Self::hold_back(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1], reloads)
    }

    fn hold_back(signals: &[Signal], reloads: bool) -> Result<Self, Errno> {
        let ignored = fs::read_to_string("/proc/self/status").map_or(0, |status| ignored_signals(&status));
        let mut set = SigSet::empty();
        for &signal in signals {
            if ignored & (1 << (signal as u64 - 1)) == 0 {
                set.add(signal);
            }
        }
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Signals { fd, reloads })
    }

    /// What has been asked for since the last call.
    pub fn request(&self) -> Option<Request> {
        let info = self.fd.read_signal().ok().flatten()?;
        let signal = i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
        Some(match signal {
            Some(Signal::SIGINT) => Request::Stop(Stop::Pipeline),
            Some(Signal::SIGHUP) if self.reloads => Request::Reload,
            Some(Signal::SIGUSR1) => Request::Report,
            _ => Request::Stop(Stop::Alone),
        })
    }

    /// Whether an end has been asked for since the last call, and by what.
    pub fn asked(&self) -> Option<Stop> {
        match self.request()? {
            Request::Stop(stop) => Some(stop),
            Request::Reload | Request::Report => None,
        }
    }
}

/// The mask of ignored signals in /proc/self/status (proc_pid_status(5)); without it, none.
fn ignored_signals(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_found() {
        assert_eq!(ignored_signals("Name:\tx\nSigBlk:\t0\nSigIgn:\t0000000000001001\nSigCgt:\t7\n"), 0x1001);
        assert_eq!(ignored_signals(""), 0);
    }
}
