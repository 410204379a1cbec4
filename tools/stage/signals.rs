//! SIGTERM, SIGINT, SIGQUIT, SIGHUP and SIGUSR1 as something to poll(2) for, instead of handlers that interrupt anywhere.

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
    /// SIGTERM or SIGHUP: this program alone. SIGQUIT too, from Ctrl-\, which people press where Ctrl-C takes too long for them.
    Alone,
}

/// The signals that always ask for an end.
const END: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT];

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
    all: SignalFd,
    /// Of these signals those that ask for an end, and the others. Each descriptor sees the same pending signals, and only
    /// those that it is for.
    apart: Option<Apart>,
    reloads: bool,
}

struct Apart {
    stop: SignalFd,
    requests: SignalFd,
}

impl Signals {
    /// Holds back SIGTERM, SIGINT, SIGQUIT and SIGHUP from now on, but for those that whoever started the program had it
    /// ignore, as nohup(1) and a shell's background jobs do. Programs started later get them as ever.
    ///
    /// # Errors
    /// signalfd(2)'s, which in practice means that no descriptor is left.
    pub fn catch() -> Result<Self, Errno> {
        Self::hold_back(&[&END[..], &[Signal::SIGHUP]].concat(), &[], false)
    }

    /// The same for a program that can say how it is, which SIGUSR1 asks for. When it `reloads`, SIGHUP asks it to
    /// read its configuration again, and no longer to end.
    ///
    /// # Errors
    /// As [`catch`](Self::catch).
    pub fn catch_requests(reloads: bool) -> Result<Self, Errno> {
        if reloads {
            Self::hold_back(&END, &[Signal::SIGHUP, Signal::SIGUSR1], true)
        } else {
            Self::hold_back(&[&END[..], &[Signal::SIGHUP]].concat(), &[Signal::SIGUSR1], false)
        }
    }

    fn hold_back(stop: &[Signal], requests: &[Signal], reloads: bool) -> Result<Self, Errno> {
        let ignored = fs::read_to_string("/proc/self/status").map_or(0, |status| ignored_signals(&status));
        let heeded = |signal: &&Signal| ignored & (1 << (**signal as u64 - 1)) == 0;
        let open = |signals: &[Signal]| -> Result<SignalFd, Errno> {
            let set: SigSet = signals.iter().filter(heeded).copied().collect();
            set.thread_block()?;
            SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        };
        let apart = match requests {
            [] => None,
            _ => Some(Apart { stop: open(stop)?, requests: open(requests)? }),
        };
        Ok(Signals { all: open(&[stop, requests].concat())?, apart, reloads })
    }

    /// What has been asked for since the last call.
    pub fn request(&self) -> Option<Request> {
        self.read(&self.all)
    }

    /// The same of what is no request to end, which stays pending for whoever waits for [`stop`](Self::stop).
    pub fn request_but_stop(&self) -> Option<Request> {
        self.read(&self.apart.as_ref()?.requests)
    }

    fn read(&self, fd: &SignalFd) -> Option<Request> {
        let info = fd.read_signal().ok().flatten()?;
        let signal = i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
        Some(match signal {
            Some(Signal::SIGINT) => Request::Stop(Stop::Pipeline),
            Some(Signal::SIGHUP) if self.reloads => Request::Reload,
            Some(Signal::SIGUSR1) => Request::Report,
            _ => Request::Stop(Stop::Alone),
        })
    }

    /// Readable as long as a request to end is pending, and by nothing else: for a write that waits for a slow reader, which
    /// whoever only wants to see the counters must not cut short.
    pub fn stop(&self) -> BorrowedFd<'_> {
        self.apart.as_ref().map_or(&self.all, |apart| &apart.stop).as_fd()
    }

    /// Readable as long as something else than an end is asked for; `None`: nothing else is caught.
    pub fn requests(&self) -> Option<BorrowedFd<'_>> {
        self.apart.as_ref().map(|apart| apart.requests.as_fd())
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

/// Readable as long as any request is pending.
impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.all.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_does_not_look_like_an_end() {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let signals = Signals::catch_requests(false).unwrap();
        let ready = || {
            [signals.as_fd(), signals.stop(), signals.requests().unwrap()]
                .map(|fd| poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() == 1)
        };
        nix::sys::signal::raise(Signal::SIGUSR1).unwrap();
        assert_eq!(ready(), [true, false, true]);
        nix::sys::signal::raise(Signal::SIGTERM).unwrap();
        assert_eq!(ready(), [true; 3]);
        assert_eq!((signals.request_but_stop(), signals.request_but_stop()), (Some(Request::Report), None));
        assert_eq!(ready(), [true, true, false]);
        assert_eq!((signals.request(), signals.request()), (Some(Request::Stop(Stop::Alone)), None));
        assert_eq!(ready(), [false; 3]);
    }

    #[test]
    fn the_mask_of_ignored_signals_is_found() {
        assert_eq!(ignored_signals("Name:\tx\nSigBlk:\t0\nSigIgn:\t0000000000001001\nSigCgt:\t7\n"), 0x1001);
        assert_eq!(ignored_signals(""), 0);
    }
}
