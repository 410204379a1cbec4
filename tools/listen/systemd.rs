//! sd_notify(3): systemd is told that the decoys are ready, by its watchdog that they still are, and that they stop.

use std::cell::Cell;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sd_notify::NotifyState;

/// The service manager. Without one, no method does anything.
pub(crate) struct Systemd {
    /// How often to tell the watchdog that all is well, and when next; `None`: there is no watchdog.
    keep_alive: Cell<Option<(Duration, Instant)>>,
}

impl Systemd {
    /// Says that the service is ready, with `status` for `systemctl status`.
    ///
    /// # Errors
    /// When systemd waits for it and cannot be told.
    pub(crate) fn ready(status: &str) -> io::Result<Self> {
        sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)])?;
        // Twice within the time that WatchdogSec= gives, as sd_watchdog_enabled(3) advises.
        let keep_alive = sd_notify::watchdog_enabled().map(|limit| (limit / 2, Instant::now()));
        Ok(Systemd { keep_alive: Cell::new(keep_alive) })
    }

    /// For when systemd could not be told that the service is ready.
    pub(crate) fn unreachable() -> Self {
        Systemd { keep_alive: Cell::new(None) }
    }

    /// Tells the watchdog that all is well, if it is time to.
    pub(crate) fn keep_alive(&self, now: Instant) {
        if let Some((every, _)) = self.keep_alive.get().filter(|&(_, next)| next <= now) {
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
            self.keep_alive.set(Some((every, now + every)));
        }
    }

    /// When the watchdog is to be told next.
    pub(crate) fn next_keep_alive(&self) -> Option<Instant> {
        self.keep_alive.get().map(|(_, next)| next)
    }

    /// Waits until `sink` takes a record or breaks, or `stop` is readable, and tells the watchdog meanwhile that all is
    /// well: a reader that is slow is no reason to be killed.
    ///
    /// # Errors
    /// poll(2)'s.
    pub(crate) fn await_reader(&self, sink: BorrowedFd<'_>, stop: BorrowedFd<'_>) -> io::Result<()> {
        let mut fds = [PollFd::new(sink, PollFlags::POLLOUT), PollFd::new(stop, PollFlags::POLLIN)];
        loop {
            let now = Instant::now();
            self.keep_alive(now);
            // Without a watchdog the write itself may wait.
            let Some(next) = self.next_keep_alive() else { return Ok(()) };
            // Milliseconds are rounded down: one more, so that this never spins just before it is time.
            let patience = next.saturating_duration_since(now) + Duration::from_millis(1);
            match poll(&mut fds, PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX)) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Says that the service is stopping.
    pub(crate) fn stopping(&self) {
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
    }
}
