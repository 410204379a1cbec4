//! What the flags mean: the defaults, and every check that needs no right. `--check` ends after this.

use std::path::PathBuf;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use psentry_records::{Ignore, Prefix};

use crate::TrapError;
use crate::cli::{Answer, Flags};
use crate::ports::{self, Ranges};

/// The longest quarantine. A forged packet costs its victim as much; for longer there is psentry-judge.
const LONGEST: Duration = Duration::from_secs(3600);

/// The flags, checked, with the files that they name read.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // as the flags have them
pub(crate) struct Settings {
    /// How long a source stays in quarantine after its last probe; at most [`LONGEST`].
    pub(crate) quarantine: Duration,
    /// Whether packets are only logged, and all of them pass.
    pub(crate) observe: bool,
    /// What becomes of a packet that does not pass.
    pub(crate) answer: Answer,
    /// Sources that are never put into quarantine or refused.
    pub(crate) allow: Vec<Prefix>,
    /// Ports that are no trap, first and last of each range: those of `--except`, and all beyond `--ports`.
    pub(crate) excepted: Vec<(u16, u16)>,
    /// How long a port is no trap after a service used it.
    pub(crate) served: Duration,
    /// The folder that keeps which ports were served, across restarts.
    pub(crate) state: Option<PathBuf>,
    /// For how long after the machine came up a packet to a closed port is a stray.
    pub(crate) grace: Duration,
    /// Whether only packets that other tables let in are looked at.
    pub(crate) after_firewall: bool,
    /// Whether pings are logged.
    pub(crate) icmp: bool,
    /// Whether packets of protocols other than TCP, UDP and ICMP are logged.
    pub(crate) protocols: bool,
    /// The port of psentry-listen's transparent socket, to which closed ports are handed.
    pub(crate) mirage: Option<u16>,
    /// The group of NFLOG, one for each program that reads it.
    pub(crate) group: u16,
    /// How many packets a second are logged, of all sources together.
    pub(crate) rate: u32,
    /// How many packets a second are logged of one source.
    pub(crate) source_rate: u32,
}

impl Settings {
    /// Reads the files and checks the rest.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub(crate) fn from_flags(flags: Flags) -> Result<Self, TrapError> {
        if flags.quarantine > LONGEST {
            return Err(TrapError::QuarantineLong(LONGEST));
        }
        let list = |flag: &'static str, lists: &[String]| -> Result<Ranges, TrapError> {
            let mut all = Ranges::default();
            for list in lists {
                all.add(&ports::parse(list).map_err(|source| TrapError::Ports { flag, source })?);
            }
            Ok(all)
        };
        let mut excepted = list("--except", &flags.except)?;
        if !flags.ports.is_empty() {
            excepted.add(&list("--ports", &flags.ports)?.others());
        }
        if excepted.hold_all() {
            return Err(TrapError::NoPortLeft);
        }
        Ok(Settings {
            quarantine: flags.quarantine,
            observe: flags.observe,
            answer: flags.answer,
            allow: Ignore::read_prefixes(&flags.allow).map_err(TrapError::Allow)?,
            excepted: excepted.list(),
            served: flags.served,
            after_firewall: flags.after_firewall,
            state: flags.state,
            grace: flags.grace,
            icmp: flags.icmp,
            protocols: flags.protocols,
            mirage: flags.mirage.map(Into::into),
            group: flags.group,
            rate: flags.rate,
            source_rate: flags.source_rate,
        })
    }
}

impl Settings {
    /// How much of the grace is left: it counts from when the machine came up, with the time that it was suspended
    /// (clock_gettime(2), CLOCK_BOOTTIME). A kernel that does not say has none left.
    pub(crate) fn grace_left(&self) -> Duration {
        let up = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::MAX, Duration::from);
        self.grace.saturating_sub(up)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use psentry_stage::{Exit, Failure};

    use super::*;

    fn settings(flags: &[&str]) -> Result<Settings, TrapError> {
        Settings::from_flags(Flags::parse_from([&["psentry-trap"], flags].concat()))
    }

    #[test]
    fn ports_and_exceptions_say_what_is_excepted() {
        assert_eq!(settings(&[]).unwrap().excepted, []);
        assert_eq!(
            settings(&["--except", "22,80-90", "--except", "91"]).unwrap().excepted,
            [(22, 22), (80, 91)]
        );
        let excepted = settings(&["--ports", "1-1023", "--except", "22"]).unwrap().excepted;
        assert_eq!(excepted, [(22, 22), (1024, 65535)]);
    }

    #[test]
    fn the_last_grace_counts_and_there_need_not_be_any() {
        assert_eq!(settings(&[]).unwrap().grace, Duration::ZERO);
        assert_eq!(settings(&["--grace", "2m"]).unwrap().grace, Duration::from_secs(120));
        assert_eq!(settings(&["--grace", "2m", "--grace", "0s"]).unwrap().grace, Duration::ZERO);
    }

    #[test]
    fn what_is_wrong_is_a_configuration_error() {
        for flags in [
            &["--ports", "0"][..],
            &["--except", "1-65535"],
            &["--ports", "22", "--except", "22"],
            &["--quarantine", "1d"],
            &["--allow", "/nonexistent"],
        ] {
            let error = settings(flags).unwrap_err();
            assert_eq!(error.exit(), Exit::Config, "{flags:?}: {error}");
        }
    }
}
