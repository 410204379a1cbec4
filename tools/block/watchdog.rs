//! systemd's watchdog (sd_notify(3)): it hears that psentry-block is alive as long as every loop that applies verdicts is,
//! the main loop and the thread of each backend. A loop is alive while it waits for work, and as long as one step of its
//! work takes less than [`LONGEST_STEP`]; a restore of many blocks is many steps, however long it takes. Whoever waits for
//! a slow reader of outcomes is alive, too.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::error::Error;

/// How long one step may take. A step runs a few programs at most, and each of them is ended after a minute.
const LONGEST_STEP: Duration = Duration::from_secs(600);

/// Since when a loop works at one step; `None`: it waits, or has ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pulse(Arc<Mutex<Option<Instant>>>);

impl Pulse {
    /// A step begins.
    pub(crate) fn step(&self) {
        self.set(Some(Instant::now()));
    }

    /// From now on it waits, for as long as may be.
    pub(crate) fn wait(&self) {
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

/// Tells systemd twice within the time that it gives, as sd_watchdog_enabled(3) advises, while all of `pulses` are alive or
/// somebody waits for the reader of outcomes. Without a watchdog it does nothing.
///
/// # Errors
/// No thread is to be had.
pub(crate) fn start(
    pulses: Vec<Pulse>,
    awaits_reader: impl Fn() -> bool + Send + 'static,
) -> Result<(), Error> {
    let Some(limit) = sd_notify::watchdog_enabled() else { return Ok(()) };
    let watch = move || {
        loop {
            let now = Instant::now();
            if awaits_reader() || pulses.iter().all(|pulse| pulse.is_alive(now)) {
                // Whoever cannot be told now is told the next time.
                let _ = sd_notify::notify(&[NotifyState::Watchdog]);
            }
            thread::sleep(limit / 2);
        }
    };
    let thread = thread::Builder::new().name("watchdog".to_owned()).spawn(watch);
    thread.map(drop).map_err(Error::system("start a thread"))
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
