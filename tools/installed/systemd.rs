//! What systemd says of units and sockets, by systemctl: for commands of people, never for a stage at work.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use psentry_stage::{Exit, printable};

use crate::{Error, missing};

/// Whether systemd runs here.
#[must_use]
pub fn has_systemd() -> bool {
    fs::exists("/run/systemd/system").unwrap_or(false)
}

/// What systemctl prints.
///
/// # Errors
/// It is missing, or it refuses.
pub fn systemctl(words: &str) -> Result<String, Error> {
    let output = Command::new("systemctl").args(words.split_whitespace()).stdin(Stdio::null()).output();
    let output = output.map_err(missing("systemctl"))?;
    let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
    let why = || Error(Exit::Os, format!("systemctl {words}: {}", printable(&text(&output.stderr))));
    output.status.success().then(|| text(&output.stdout)).ok_or_else(why)
}

/// The decoys that are open, as `23/tcp`, by number.
///
/// # Errors
/// As of [`systemctl`].
pub fn decoys() -> Result<Vec<String>, Error> {
    let text = systemctl("show --state=active -p Listen psentry-*.socket")?;
    let mut ports: Vec<(u16, &str)> = text.lines().filter_map(listening_port).collect();
    ports.sort_unstable();
    ports.dedup();
    Ok(ports.into_iter().map(|(number, proto)| format!("{number}/{proto}")).collect())
}

/// The properties of units that `systemctl show` prints, by the `Id` of each, with an empty line between two.
pub(crate) fn unit_properties(text: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    let unit = |part: &str| part.lines().filter_map(pair).collect::<BTreeMap<_, _>>();
    text.split("\n\n").map(unit).filter_map(|unit| Some((unit.get("Id")?.clone(), unit))).collect()
}

/// The port of a line such as `Listen=[::]:23 (Stream)`, with its transport; none of a FIFO.
fn listening_port(line: &str) -> Option<(u16, &'static str)> {
    let (address, kind) = line.strip_prefix("Listen=")?.rsplit_once(' ')?;
    let (_, proto) =
        [("(Stream)", "tcp"), ("(Datagram)", "udp")].into_iter().find(|(name, _)| *name == kind)?;
    Some((address.rsplit_once(':')?.1.parse().ok()?, proto))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_as_systemctl_shows_them() {
        let units = unit_properties(
            "Id=psentry-judge.service\nLoadState=loaded\nNRestarts=2\nResult=\n\nId=psentry-x.timer\nLoadState=not-found\n",
        );
        assert_eq!(units.keys().collect::<Vec<_>>(), ["psentry-judge.service", "psentry-x.timer"]);
        assert_eq!(units["psentry-judge.service"]["NRestarts"], "2");
        assert_eq!(units["psentry-judge.service"]["Result"], "");
    }

    #[test]
    fn sockets_are_ports() {
        for (line, is) in [
            ("Listen=[::]:23 (Stream)", Some((23, "tcp"))),
            ("Listen=0.0.0.0:161 (Datagram)", Some((161, "udp"))),
            ("Listen=/run/psentry/events (FIFO)", None),
            ("Id=x", None),
            ("Listen=", None),
        ] {
            assert_eq!(listening_port(line), is, "{line}");
        }
    }
}
