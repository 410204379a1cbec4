//! What systemd is told (sd_notify(3)): that the blocker is ready, which is once all that is wanted is there again, as far as it
//! can be. Whoever is ordered after psentry-block.service starts with everybody blocked who was.

use sd_notify::NotifyState;

use crate::outcomes::report;

/// Says that it is ready. Where nobody waits for that, nobody is told.
pub(crate) fn tell() {
    if let Err(why) = sd_notify::notify(&[NotifyState::Ready]) {
        report(&format!(
            "the service manager cannot be told that psentry-block is ready: {why}; with Type=notify it will take it for \
             hanging: RestrictAddressFamilies= has to allow AF_UNIX"
        ));
    }
}
