//! `decoy`: which ports are decoys, which are sockets of systemd, one unit a port.

use std::process::{Command, Stdio};

use nix::unistd::geteuid;
use psentry_stage::{Exit, printable};

use crate::Error;
use crate::cli::Action;
use crate::programs::{missing, systemctl};
use crate::run::{Context, print, print_lines};

/// Shows the decoys, or opens or closes the one at a port such as `23/tcp`.
pub(crate) fn decoy(context: &Context, action: Action, port: Option<&str>) -> Result<(), Error> {
    let Some((number, proto)) = port.and_then(|port| port.split_once('/')).filter(|_| action != Action::List)
    else {
        return print_lines(context, open()?.into_iter());
    };
    let (port, unit) = (format!("{number}/{proto}"), format!("psentry-{proto}@{number}.socket"));
    let installed = &context.installed;
    installed.may_change(&installed.etc("psentry.conf"), &format!("{proto}Ports = [ {number} ]"))?;
    if !geteuid().is_root() {
        return Err(Error::rights("cannot change a decoy"));
    }
    match (action, open()?.contains(&port)) {
        (Action::Add, true) => print(&format!("{port} is a decoy already\n")),
        (Action::Add, false) => {
            if let Some(service) = service(number, proto)? {
                return Err(Error::new(
                    Exit::No,
                    format!("{port} is no port for a decoy: {service} listens there"),
                ));
            }
            systemctl(&["enable", &unit])?;
            systemctl(&["restart", "psentry.target"])?;
            print(&format!("{port} is a decoy now; the firewall has to let strangers in to it\n"))
        }
        (_, false) => Err(Error::new(Exit::No, format!("{port} is no decoy; see 'psentry decoy list'"))),
        (_, true) => {
            systemctl(&["disable", "--now", &unit])?;
            systemctl(&["restart", "psentry-listen.service"])?;
            print(&format!("{port} is a decoy no more, and free for a service\n"))
        }
    }
}

/// The decoys that are open, as `23/tcp`, by number.
pub(crate) fn open() -> Result<Vec<String>, Error> {
    let text = systemctl(&["show", "--state=active", "-p", "Listen", "psentry-*.socket"])?;
    let mut ports: Vec<(u16, &str)> = text.lines().filter_map(port).collect();
    ports.sort_unstable();
    ports.dedup();
    Ok(ports.into_iter().map(|(number, proto)| format!("{number}/{proto}")).collect())
}

/// The port of a line such as `Listen=[::]:23 (Stream)`; none of a FIFO.
fn port(line: &str) -> Option<(u16, &'static str)> {
    let (address, kind) = line.strip_prefix("Listen=")?.rsplit_once(' ')?;
    let kinds = [("(Stream)", "tcp"), ("(Datagram)", "udp")];
    let (_, proto) = kinds.into_iter().find(|(name, _)| *name == kind)?;
    Some((address.rsplit_once(':')?.1.parse().ok()?, proto))
}

/// What listens on a port, by name where that is known.
fn service(number: &str, proto: &str) -> Result<Option<String>, Error> {
    let args = ["-Hlnp", &format!("--{proto}"), &format!("sport = :{number}")];
    let output = Command::new("ss").args(args).stdin(Stdio::null()).output().map_err(missing("ss"))?;
    Ok(listener(&String::from_utf8_lossy(&output.stdout)))
}

/// The program in lines of ss, such as `... users:(("sshd",pid=1,fd=3))`.
fn listener(lines: &str) -> Option<String> {
    let line = lines.lines().find(|line| !line.trim().is_empty())?;
    let name = line.split_once("users:((\"").and_then(|(_, rest)| rest.split_once('"'));
    Some(name.map_or_else(|| "an unknown program".to_owned(), |(name, _)| printable(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_of_systemd_are_ports_and_ss_names_their_services() {
        for (line, is) in [
            ("Listen=[::]:23 (Stream)", Some((23, "tcp"))),
            ("Listen=0.0.0.0:161 (Datagram)", Some((161, "udp"))),
            ("Listen=/run/psentry/events (FIFO)", None),
            ("Id=x", None),
            ("Listen=", None),
        ] {
            assert_eq!(port(line), is, "{line}");
        }
        let line = "LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:((\"sshd\",pid=1,fd=3))\n";
        assert_eq!(listener(line).as_deref(), Some("sshd"));
        assert_eq!(listener("LISTEN 0 128 *:22 *:*").as_deref(), Some("an unknown program"));
        assert_eq!(listener("\n"), None);
    }
}
