//! What the flags mean: the defaults, and every check that needs no right. `--check` ends after this.

use std::path::PathBuf;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use psentry_stage::Mode;

use crate::TrapError;
use crate::cli::{Answer, Flags};
use crate::ports::{self, Ranges};

/// The longest quarantine. A forged packet costs its victim as much; for longer there is psentry-judge.
const LONGEST: Duration = Duration::from_secs(3600);

/// The flags, checked, with the files that they name read.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)] // as the flags have them
pub(crate) struct Settings {
    /// How long a source stays in quarantine after its last probe; at most [`LONGEST`].
    pub(crate) quarantine: Duration,
    /// Whether packets are only logged, and all of them pass.
    pub(crate) observe: bool,
    /// What becomes of a packet that does not pass.
    pub(crate) answer: Answer,
    /// Sources that are never put into quarantine or refused.
    pub(crate) allow: Vec<PathBuf>,
    /// TCP ports that are no trap: those of `--except`, and all beyond `--tcp-ports`.
    pub(crate) excepted_tcp: Ranges,
    /// The same of UDP.
    pub(crate) excepted_udp: Ranges,
    /// The interfaces whose packets are looked at; empty: all of them.
    pub(crate) interfaces: Vec<String>,
    /// How long a port is no trap after a service used it.
    pub(crate) served: Duration,
    /// The folder that keeps which ports were served, across restarts.
    pub(crate) state: Option<PathBuf>,
    /// For how long after the machine came up a packet to a closed port is a stray.
    pub(crate) grace: Duration,
    /// Whether only packets that other tables accept are watched.
    pub(crate) after_firewall: bool,
    /// Whether pings are logged.
    pub(crate) icmp: bool,
    /// Whether packets of protocols other than TCP, UDP and ICMP are logged.
    pub(crate) protocols: bool,
    /// TCP and UDP ports that are closed ports to whoever is not vouched for.
    pub(crate) hide: Ranges,
    /// For how long a vouch counts at most.
    pub(crate) vouched: Duration,
    /// Within which time somebody has to confirm that hidden and veiled ports are reached; `None`: nobody has to.
    pub(crate) confirm: Option<Duration>,
    /// TCP ports at which the first packet of whoever is not familiar is dropped.
    pub(crate) veil: Ranges,
    /// Whether also of those in networks of this machine.
    pub(crate) veil_own: bool,
    /// How long a source is familiar after its last connection.
    pub(crate) familiar: Duration,
    /// The port of psentry-listen's transparent socket, to which closed ports are handed.
    pub(crate) mirage: Option<u16>,
    /// Where it may be asked; `None`: at the default place, if that can be had.
    pub(crate) control: Option<PathBuf>,
    /// Who may ask there, as the mode of a file.
    pub(crate) control_mode: u32,
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
        let except = list("--except", &flags.except)?;
        let excepted = |flag: &'static str, watched: &[String]| -> Result<Ranges, TrapError> {
            let mut excepted = except.clone();
            match watched {
                [] => {}
                [none] if none == "none" => excepted.add(&Ranges::default().others()),
                lists => excepted.add(&list(flag, lists)?.others()),
            }
            Ok(excepted)
        };
        let excepted_tcp = excepted("--tcp-ports", &flags.tcp_ports)?;
        let excepted_udp = excepted("--udp-ports", &flags.udp_ports)?;
        if excepted_tcp.hold_all() && excepted_udp.hold_all() {
            return Err(TrapError::NoPortLeft);
        }
        Ok(Settings {
            quarantine: flags.quarantine,
            observe: flags.observe || flags.mode == Mode::Observe,
            answer: flags.answer,
            allow: flags.allow,
            excepted_tcp,
            excepted_udp,
            interfaces: flags.interface,
            served: flags.served,
            after_firewall: flags.after_firewall,
            state: flags.state,
            grace: flags.grace,
            icmp: flags.icmp,
            protocols: flags.protocols,
            hide: list("--hide", &flags.hide)?,
            vouched: flags.vouched,
            confirm: flags.confirm,
            veil: list("--veil", &flags.veil)?,
            veil_own: flags.veil_own,
            familiar: flags.familiar,
            mirage: flags.mirage.map(Into::into),
            control: flags.control,
            control_mode: flags.control_mode,
            group: flags.group,
            rate: flags.rate,
            source_rate: flags.source_rate,
        })
    }
}

impl Settings {
    /// The ports that are hidden or veiled.
    pub(crate) fn hidden_or_veiled(&self) -> Ranges {
        let mut both = self.hide.clone();
        both.add(&self.veil);
        both
    }

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
        let excepted = |flags: &[&str]| {
            let settings = settings(flags).unwrap();
            [settings.excepted_tcp, settings.excepted_udp].map(|ranges| ranges.list().to_vec())
        };
        assert_eq!(excepted(&[]), [vec![], vec![]]);
        let both = vec![(22, 22), (80, 91)];
        assert_eq!(excepted(&["--except", "22,80-90", "--except", "91"]), [both.clone(), both]);
        assert_eq!(
            excepted(&["--tcp-ports", "1-1023", "--udp-ports", "53", "--except", "22"]),
            [vec![(22, 22), (1024, 65535)], vec![(1, 52), (54, 65535)]]
        );
        assert_eq!(excepted(&["--udp-ports", "none"]), [vec![], vec![(1, 65535)]]);
    }

    #[test]
    fn the_last_grace_counts_and_there_need_not_be_any() {
        assert_eq!(settings(&[]).unwrap().grace, Duration::ZERO);
        assert_eq!(settings(&["--grace", "2m"]).unwrap().grace, Duration::from_secs(120));
        assert_eq!(settings(&["--grace", "2m", "--grace", "0s"]).unwrap().grace, Duration::ZERO);
    }

    #[test]
    fn a_wrong_value_is_of_usage_and_what_goes_not_together_of_configuration() {
        for (flags, exit) in [
            (&["--tcp-ports", "0"][..], Exit::Usage),
            (&["--tcp-ports", "none", "--tcp-ports", "22"], Exit::Usage),
            (&["--except", "1-65535"], Exit::Config),
            (&["--tcp-ports", "22", "--udp-ports", "none", "--except", "22"], Exit::Config),
            (&["--quarantine", "1d"], Exit::Config),
        ] {
            let error = settings(flags).unwrap_err();
            assert_eq!(error.exit(), exit, "{flags:?}: {error}");
        }
    }
}
