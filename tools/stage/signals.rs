//! SIGTERM and SIGINT as something to poll(2) for, instead of handlers that interrupt anywhere.

use std::fs;
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
    /// Holds back SIGTERM, SIGINT and SIGHUP from now on, but for those that whoever started the program had it
    /// ignore, as nohup(1) and a shell's background jobs do. Programs started later get them as ever.
    ///
    /// # Errors
    /// signalfd(2)'s, which in practice means that no descriptor is left.
    pub fn catch() -> Result<Self, Errno> {
        let ignored = fs::read_to_string("/proc/self/status").map_or(0, |status| ignored_signals(&status));
        let mut set = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            if ignored & (1 << (signal as u64 - 1)) == 0 {
                set.add(signal);
            }
        }
        set.thread_block()?;
        Ok(Signals(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?))
    }

    /// Which one has come since the last call.
    pub fn asked(&self) -> Option<Stop> {
        let info = self.0.read_signal().ok().flatten()?;
        let interrupt = u32::try_from(Signal::SIGINT as i32) == Ok(info.ssi_signo);
        Some(if interrupt { Stop::Pipeline } else { Stop::Alone })
    }
}

/// The mask of ignored signals in /proc/self/status (proc_pid_status(5)); without it, none.
fn ignored_signals(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
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
