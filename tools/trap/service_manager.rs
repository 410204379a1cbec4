//! What is said once the rules are loaded, on standard error and to the service manager (sd_notify(3)), and by its
//! watchdog as long as the monitor's loop turns. That the worker waits for a slow reader is no reason to be restarted: the
//! kernel shuts sources out meanwhile.

use std::time::{Duration, Instant};

use psentry_stage::counted;
use sd_notify::NotifyState;

use crate::ports::Ranges;
use crate::settings::Settings;

/// The service manager. Where there is none, nothing is said to it.
pub(crate) struct ServiceManager {
    /// How often the watchdog is told, and when it was last; `None`: there is none.
    watchdog: Option<(Duration, Instant)>,
}

impl ServiceManager {
    /// Says that the rules are loaded, with `status` for systemctl(1).
    ///
    /// # Errors
    /// A sentence: it waits for that, and cannot be told.
    pub(crate) fn ready(status: &str, now: Instant) -> Result<Self, String> {
        sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)]).map_err(|why| {
            format!(
                "the service manager cannot be told that psentry-trap is ready: {why}; with Type=notify it will take it for \
                 hanging: RestrictAddressFamilies= has to allow AF_UNIX"
            )
        })?;
        // Twice within the time that WatchdogSec= gives, as sd_watchdog_enabled(3) advises.
        Ok(ServiceManager { watchdog: sd_notify::watchdog_enabled().map(|limit| (limit / 2, now)) })
    }

    /// For when it could not be told.
    pub(crate) fn unreachable() -> Self {
        ServiceManager { watchdog: None }
    }

    /// Tells the watchdog that the loop turns, if it is time to.
    pub(crate) fn keep_alive(&mut self, now: Instant) {
        if let Some((every, last)) = &mut self.watchdog
            && now.saturating_duration_since(*last) >= *every
        {
            *last = now;
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        }
    }

    /// When the watchdog is to be told next.
    pub(crate) fn next_keep_alive(&self) -> Option<Instant> {
        self.watchdog.map(|(every, last)| last + every)
    }
}

/// Tells the service manager another status for systemctl(1).
pub(crate) fn report_status(status: &str) {
    let _ = sd_notify::notify(&[NotifyState::Status(status)]);
}

/// What is trapped, and where, in a sentence.
pub(crate) fn ready_sentence(settings: &Settings) -> String {
    let ports = [(&settings.excepted_tcp, "TCP"), (&settings.excepted_udp, "UDP")]
        .into_iter()
        .filter(|(excepted, _)| !excepted.hold_all())
        .map(|(excepted, proto)| ports(excepted, proto));
    let ports = ports.collect::<Vec<_>>().join(" and ");
    let verb = if settings.observe { "observes" } else { "traps" };
    let interfaces = match settings.interfaces.as_slice() {
        [] => "every interface".to_owned(),
        names => names.join(", "),
    };
    format!("ready: {verb} {ports} without a socket, on {interfaces}")
}

fn ports(excepted: &Ranges, proto: &str) -> String {
    match excepted.others().count() {
        65535 => format!("every {proto} port"),
        count => counted(count, &format!("{proto} port"), &format!("{proto} ports")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::Flags;

    #[test]
    fn what_is_trapped_is_said_in_a_sentence() {
        for (flags, want) in [
            (&[][..], "ready: traps every TCP port and every UDP port without a socket, on every interface"),
            (
                &[
                    "--observe",
                    "--tcp-ports",
                    "1-1023",
                    "--udp-ports",
                    "53",
                    "--interface",
                    "eth0",
                    "--interface",
                    "wg0",
                ],
                "ready: observes 1023 TCP ports and 1 UDP port without a socket, on eth0, wg0",
            ),
            (
                &["--except", "22", "--udp-ports", "none"],
                "ready: traps 65534 TCP ports without a socket, on every interface",
            ),
        ] {
            let flags = Flags::parse_from([&["psentry-trap"], flags].concat());
            assert_eq!(ready_sentence(&Settings::from_flags(flags).unwrap()), want);
        }
    }
}
