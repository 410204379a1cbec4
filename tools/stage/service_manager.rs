//! The service manager, which is systemd (sd_notify(3)): it is told that a program is ready, that it stops, and, if it has set a
//! watchdog, that the program is alive. Where there is no service manager, nobody is told anything.

use std::cell::Cell;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sd_notify::NotifyState;

/// How long one step of a loop may take. A step runs a few programs at most, and each of them is ended after a minute.
const LONGEST_STEP: Duration = Duration::from_secs(600);

/// Says that `program` is ready, with `status` for systemctl(1), if it has one.
///
/// # Errors
/// A sentence: the service manager waits for that, and cannot be told.
pub fn report_ready(program: &str, status: Option<&str>) -> Result<(), String> {
    let states: Vec<NotifyState<'_>> =
        [NotifyState::Ready].into_iter().chain(status.map(NotifyState::Status)).collect();
    sd_notify::notify(&states).map_err(|why| {
        format!(
            "the service manager cannot be told that {program} is ready: {why}; with Type=notify it will take it for \
             hanging: RestrictAddressFamilies= has to allow AF_UNIX"
        )
    })
}

/// Says another status for systemctl(1).
pub fn report_status(status: &str) {
    let _ = sd_notify::notify(&[NotifyState::Status(status)]);
}

/// Says that the program is stopping.
pub fn report_stopping() {
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
}

/// The watchdog of the service manager. Without one, no method does anything.
#[derive(Debug)]
pub struct Watchdog {
    /// How often it is told that the program is alive, and when next.
    due: Cell<Option<(Duration, Instant)>>,
}

impl Watchdog {
    /// The one that WatchdogSec= sets: it is told twice within the time that it gives, as sd_watchdog_enabled(3) advises.
    #[must_use]
    pub fn of_service() -> Self {
        let due = sd_notify::watchdog_enabled().map(|limit| (limit / 2, Instant::now()));
        Watchdog { due: Cell::new(due) }
    }

    /// Tells it that the program is alive, if it is time to.
    pub fn keep_alive(&self, now: Instant) {
        if let Some((every, _)) = self.due.get().filter(|(_, next)| *next <= now) {
            // Whoever cannot be told now is told the next time.
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
            self.due.set(Some((every, now + every)));
        }
    }

    /// When it is to be told next.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.due.get().map(|(_, next)| next)
    }

    /// Waits until `sink` takes a record or breaks, or `stop` is readable, and tells the watchdog meanwhile that all is
    /// well: a reader that is slow is no reason to be killed.
    ///
    /// # Errors
    /// poll(2)'s.
    pub fn await_reader(&self, sink: BorrowedFd<'_>, stop: BorrowedFd<'_>) -> io::Result<()> {
        let mut fds = [PollFd::new(sink, PollFlags::POLLOUT), PollFd::new(stop, PollFlags::POLLIN)];
        loop {
            let now = Instant::now();
            self.keep_alive(now);
            // Without a watchdog the write itself may wait.
            let Some(next) = self.next() else { return Ok(()) };
            // Milliseconds are rounded down: one more, so that this never spins just before it is time.
            let patience = next.saturating_duration_since(now) + Duration::from_millis(1);
            match poll(&mut fds, PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX)) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Leaves it to a thread of its own, for a program of several loops: it is alive as long as all of `pulses` are, or it waits
    /// for a slow reader.
    ///
    /// # Errors
    /// No thread is to be had.
    pub fn follow(
        self,
        pulses: Vec<Pulse>,
        awaits_reader: impl Fn() -> bool + Send + 'static,
    ) -> io::Result<()> {
        let Some((every, _)) = self.due.get() else { return Ok(()) };
        let watch = move || {
            loop {
                let now = Instant::now();
                if awaits_reader() || pulses.iter().all(|pulse| pulse.is_alive(now)) {
                    self.keep_alive(now);
                }
                thread::sleep(every);
            }
        };
        thread::Builder::new().name("watchdog".to_owned()).spawn(watch).map(drop)
    }
}

/// Since when a loop works at one step; `None`: it waits, or has ended. A loop is alive while it waits for work, and as long as
/// one step of its work takes less than ten minutes; a long work is many steps, however long it takes.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<Mutex<Option<Instant>>>);

impl Pulse {
    /// A step begins.
    pub fn step(&self) {
        self.set(Some(Instant::now()));
    }

    /// From now on it waits, for as long as may be.
    pub fn wait(&self) {
        self.set(None);
    }

    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn is_alive(&self, now: Instant) -> bool {
        let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_none_or(|since| now.saturating_duration_since(since) < LONGEST_STEP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_never_ends_is_no_life_and_waiting_is() {
        let pulse = Pulse::default();
        let later = |seconds| Instant::now() + Duration::from_secs(seconds);
        assert!(pulse.is_alive(later(1_000_000)));
        pulse.step();
        assert!(pulse.is_alive(later(0)) && pulse.is_alive(later(599)));
        assert!(!pulse.is_alive(later(601)));
        // Another step, as each piece of a restore is.
        pulse.set(Some(later(500)));
        assert!(pulse.is_alive(later(601)));
        pulse.wait();
        assert!(pulse.is_alive(later(1_000_000)));
    }
}
