//! What systemd is told (sd_notify(3)): that the decoys stand, that they still do, and that they go.

use std::cell::Cell;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sd_notify::NotifyState;

/// The talk with the service manager. Without one all of it does nothing.
pub(crate) struct Service {
    /// How often to say that all is well, and when next.
    pulse: Cell<Option<(Duration, Instant)>>,
}

impl Service {
    /// Says that `status` is so and the service is ready.
    ///
    /// # Errors
    /// When systemd waits for it and cannot be told.
    pub(crate) fn ready(status: &str) -> io::Result<Self> {
        sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)])?;
        // Twice within the time that WatchdogSec= gives, as sd_watchdog_enabled(3) advises.
        let pulse = sd_notify::watchdog_enabled().map(|limit| (limit / 2, Instant::now()));
        Ok(Service { pulse: Cell::new(pulse) })
    }

    /// For when systemd could not be told that the service is ready.
    pub(crate) fn silent() -> Self {
        Service { pulse: Cell::new(None) }
    }

    /// Says that all is well, if it is time to.
    pub(crate) fn pulse(&self, now: Instant) {
        if let Some((every, _)) = self.pulse.get().filter(|&(_, next)| next <= now) {
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
            self.pulse.set(Some((every, now + every)));
        }
    }

    /// When it is time to.
    pub(crate) fn next_pulse(&self) -> Option<Instant> {
        self.pulse.get().map(|(_, next)| next)
    }

    /// Waits until `sink` takes a record or breaks, or `stop` is readable, and says meanwhile that all is well: a
    /// reader that is slow is no reason to be killed.
    ///
    /// # Errors
    /// poll(2)'s.
    pub(crate) fn await_reader(&self, sink: BorrowedFd<'_>, stop: BorrowedFd<'_>) -> io::Result<()> {
        let mut fds = [PollFd::new(sink, PollFlags::POLLOUT), PollFd::new(stop, PollFlags::POLLIN)];
        loop {
            let now = Instant::now();
            self.pulse(now);
            // Without a pulse the write itself may wait.
            let Some(next) = self.next_pulse() else { return Ok(()) };
            // Milliseconds are rounded down: one more, so that this never spins just before it is time.
            let patience = next.saturating_duration_since(now) + Duration::from_millis(1);
            match poll(&mut fds, PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX)) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Says that the service is ending.
    pub(crate) fn stopping(&self) {
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
    }
}
