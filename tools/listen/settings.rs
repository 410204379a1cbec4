//! What the flags mean: the defaults, and every check that needs no socket. `--check` ends after this.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use psentry_stage::parse_ports;

use crate::limits::{HOLD_MS, LONGEST_BANNER};
use crate::{Flags, ListenError};

/// What psentry-listen was asked to do.
#[derive(Debug)]
pub(crate) struct Settings {
    /// TCP ports to bind.
    pub(crate) tcp: BTreeSet<u16>,
    /// UDP ports to bind.
    pub(crate) udp: BTreeSet<u16>,
    /// The port of the mirage, bound for TCP and UDP.
    pub(crate) mirage: Option<u16>,
    /// Addresses to bind the others to, none covered by another; empty: all of this machine's.
    pub(crate) bind: BTreeSet<IpAddr>,
    pub(crate) handling: Handling,
    /// How many connections, and how many datagrams, are recorded a second; and how many of those of one source.
    pub(crate) rate: u32,
    pub(crate) source_rate: u32,
    /// `--host`; absent: the host name.
    pub(crate) host: Option<String>,
}

/// What is done with a connection or a datagram.
#[derive(Clone, Debug, Default)]
pub(crate) struct Handling {
    /// What is sent; empty: nothing.
    pub(crate) banner: Vec<u8>,
    /// Whether datagrams are answered with the banner, too.
    pub(crate) answer_udp: bool,
    /// How many of the first bytes go into the probe.
    pub(crate) capture: usize,
    /// How long a connection is held; zero: it is closed at once.
    pub(crate) hold: Duration,
    /// How many are held at once.
    pub(crate) max_held: usize,
}

impl Settings {
    /// Reads the banner and checks the rest.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub(crate) fn from_flags(flags: Flags) -> Result<Self, ListenError> {
        let tcp = port_list("--tcp", &flags.tcp)?;
        let udp = port_list("--udp", &flags.udp)?;
        let bind = flags.bind.iter().map(|text| address(text)).collect::<Result<_, _>>().map(uncovered)?;
        if !bind.is_empty() && tcp.is_empty() && udp.is_empty() {
            return Err(ListenError::BindAlone);
        }
        if let Some(port) = flags.mirage.filter(|port| tcp.contains(port) || udp.contains(port)) {
            return Err(ListenError::MirageTwice(port));
        }
        let banner = flags.banner.as_deref().map(banner).transpose()?.unwrap_or_default();
        let takes_time = flags.capture > 0 || !banner.is_empty();
        let hold = flags.hold.unwrap_or(if takes_time { HOLD_MS } else { 0 });
        if hold == 0 && !banner.is_empty() {
            return Err(ListenError::BannerUnread);
        }
        let handling = Handling {
            banner,
            answer_udp: flags.answer_udp,
            capture: usize::try_from(flags.capture).unwrap_or(usize::MAX),
            hold: Duration::from_millis(hold.into()),
            max_held: usize::try_from(flags.max_held).unwrap_or(usize::MAX),
        };
        Ok(Settings {
            tcp,
            udp,
            mirage: flags.mirage,
            bind,
            handling,
            rate: flags.rate,
            source_rate: flags.source_rate,
            host: flags.host,
        })
    }
}

fn port_list(flag: &'static str, lists: &[String]) -> Result<BTreeSet<u16>, ListenError> {
    let mut all = BTreeSet::new();
    for list in lists {
        let ranges = parse_ports(list).map_err(|source| ListenError::Ports { flag, source })?;
        all.extend(ranges.into_iter().flatten());
    }
    Ok(all)
}

/// An address that a decoy can have.
fn address(text: &str) -> Result<IpAddr, ListenError> {
    let quoted = || text.chars().take(60).collect::<String>();
    let addr: IpAddr = text.parse().map_err(|_| ListenError::BindForm(quoted()))?;
    if addr.is_multicast() || addr == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Err(ListenError::BindMany(addr));
    }
    Ok(psentry_records::canonical(addr))
}

/// Without the addresses that a wildcard covers: their ports would be its own already. `::` is IPv4's too, but it
/// leaves that to `0.0.0.0` where both are given.
fn uncovered(mut bind: BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
    let all_v6 = bind.contains(&IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let all_v4 = all_v6 || bind.contains(&IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    bind.retain(|addr| addr.is_unspecified() || !(if addr.is_ipv4() { all_v4 } else { all_v6 }));
    bind
}

fn banner(path: &Path) -> Result<Vec<u8>, ListenError> {
    let name = || path.to_owned();
    let unreadable = |source: io::Error| ListenError::Banner { path: name(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(LONGEST_BANNER + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    match bytes.len() {
        0 => Err(ListenError::BannerEmpty(name())),
        n if n as u64 > LONGEST_BANNER => Err(ListenError::BannerLong { path: name(), most: LONGEST_BANNER }),
        _ => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use psentry_stage::Failure;

    use super::*;

    fn settings(flags: &[&str]) -> Result<Settings, ListenError> {
        Settings::from_flags(Flags::parse_from([&["psentry-listen"], flags].concat()))
    }

    #[test]
    fn a_hold_comes_with_a_capture_or_a_banner() {
        assert_eq!(settings(&["--tcp", "23"]).unwrap().handling.hold, Duration::ZERO);
        assert_eq!(settings(&["--capture", "64"]).unwrap().handling.hold, Duration::from_secs(1));
        assert_eq!(settings(&["--capture", "1", "--hold", "0"]).unwrap().handling.hold, Duration::ZERO);
        assert_eq!(settings(&["--hold", "250"]).unwrap().handling.hold, Duration::from_millis(250));
    }

    #[test]
    fn a_wrong_value_is_of_usage() {
        for flags in [
            &["--tcp", "0"][..],
            &["--udp", "69,tftp"],
            &["--tcp", "23", "--bind", "localhost"],
            &["--tcp", "23", "--bind", "224.0.0.1"],
        ] {
            let error = settings(flags).unwrap_err();
            assert_eq!(error.exit(), psentry_stage::Exit::Usage, "{flags:?}: {error}");
        }
    }

    #[test]
    fn what_goes_not_together_and_a_bad_file_are_of_configuration() {
        for flags in [
            &["--bind", "127.0.0.1"][..],
            &["--bind", "127.0.0.1", "--mirage", "61999"],
            &["--tcp", "1-1024", "--mirage", "80"],
            &["--udp", "69", "--mirage", "69"],
            &["--banner", "/nonexistent/banner"],
            &["--banner", "/dev/null"],
            &["--banner", "/dev/zero"],
            &["--banner", "/proc/version", "--hold", "0"],
        ] {
            let error = settings(flags).unwrap_err();
            assert_eq!(error.exit(), psentry_stage::Exit::Config, "{flags:?}: {error}");
        }
    }

    #[test]
    fn flags_repeat_and_mapped_addresses_are_ipv4() {
        let settings =
            settings(&["--tcp", "23,21", "--tcp", "21,80", "--bind", "::ffff:127.0.0.1", "--bind", "::1"])
                .unwrap();
        assert_eq!(crate::ports::list(&settings.tcp), "21,23,80");
        assert!(settings.bind.contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
        assert_eq!(settings.bind.len(), 2);
    }

    #[test]
    fn no_address_is_bound_twice() {
        for (given, bound) in [
            (&["127.0.0.1", "127.0.0.1", "::ffff:127.0.0.1"][..], &["127.0.0.1"][..]),
            (&["127.0.0.1", "::1"], &["127.0.0.1", "::1"]),
            (&["0.0.0.0", "127.0.0.1", "192.0.2.7"], &["0.0.0.0"]),
            (&["127.0.0.1", "0.0.0.0", "::1"], &["0.0.0.0", "::1"]),
            (&["::", "::1", "127.0.0.1"], &["::"]),
            (&["::1", "::", "127.0.0.1", "0.0.0.0"], &["0.0.0.0", "::"]),
        ] {
            let flags = given.iter().flat_map(|addr| ["--bind", addr]).chain(["--tcp", "23"]);
            let settings = settings(&flags.collect::<Vec<_>>()).unwrap();
            let want: BTreeSet<IpAddr> = bound.iter().map(|addr| addr.parse().unwrap()).collect();
            assert_eq!(settings.bind, want, "{given:?}");
        }
    }
}
