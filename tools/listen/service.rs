//! What systemd is told (sd_notify(3)): that the decoys stand, that they still do, and that they go.

use std::io;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// The talk with the service manager. Without one all of it does nothing.
pub(crate) struct Service {
    /// How often to say that all is well, and when next.
    pulse: Option<(Duration, Instant)>,
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
        Ok(Service { pulse })
    }

    /// For when systemd could not be told that the service is ready.
    pub(crate) fn silent() -> Self {
        Service { pulse: None }
    }

    /// Says that all is well, if it is time to.
    pub(crate) fn pulse(&mut self, now: Instant) {
        match &mut self.pulse {
            Some((every, next)) if *next <= now => {
                let _ = sd_notify::notify(&[NotifyState::Watchdog]);
                *next = now + *every;
            }
            _ => {}
        }
    }

    /// When it is time to.
    pub(crate) fn next_pulse(&self) -> Option<Instant> {
        self.pulse.map(|(_, next)| next)
    }

    /// Says that the service is ending.
    pub(crate) fn stopping(&self) {
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
    }
}
