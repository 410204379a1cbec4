//! `decoy`: which ports are decoys, which are sockets of systemd, one unit a port.

use std::process::{Command, Stdio};

use nix::unistd::geteuid;
use psentry_stage::{Exit, printable};
use serde_json::json;

use crate::Error;
use crate::cli::{Decoy, Port};
use crate::run::{Context, print};
use crate::siblings::systemctl;

/// Shows them, or opens or closes one.
pub(crate) fn decoy(context: &Context, command: &Decoy) -> Result<(), Error> {
    match command {
        Decoy::List => {
            let line = |port: &Port| {
                if context.json {
                    json!({ "port": port.number, "proto": port.proto }).to_string()
                } else {
                    port.to_string()
                }
            };
            print(&open()?.iter().map(|port| line(port) + "\n").collect::<String>())
        }
        Decoy::Add { port } => add(context, *port),
        Decoy::Remove { decoy } => remove(context, *decoy),
    }
}

fn add(context: &Context, port: Port) -> Result<(), Error> {
    may_change(context, port)?;
    if open()?.contains(&port) {
        return print(&format!("{port} is a decoy already\n"));
    }
    if let Some(service) = service(port)? {
        return Err(Error::no(format!("{port} is no port for a decoy: {service} listens there")));
    }
    systemctl(&["enable", &unit(port)])?;
    systemctl(&["restart", "psentry.target"])?;
    print(&format!("{port} is a decoy now; the firewall has to let strangers in to it\n"))
}

fn remove(context: &Context, port: Port) -> Result<(), Error> {
    may_change(context, port)?;
    if !open()?.contains(&port) {
        return Err(Error::no(format!("{port} is no decoy; 'psentry decoy list' shows which ports are")));
    }
    systemctl(&["disable", "--now", &unit(port)])?;
    systemctl(&["restart", "psentry-listen.service"])?;
    print(&format!("{port} is a decoy no more, and free for a service\n"))
}

/// The decoys that are open.
pub(crate) fn open() -> Result<Vec<Port>, Error> {
    let text = systemctl(&["show", "--state=active", "-p", "Listen", "psentry-*.socket"])?;
    let mut ports: Vec<Port> = text.lines().filter_map(listens).collect();
    ports.sort_unstable();
    ports.dedup();
    Ok(ports)
}

/// The port of a line such as `Listen=[::]:23 (Stream)`; none of a FIFO.
fn listens(line: &str) -> Option<Port> {
    let (address, kind) = line.strip_prefix("Listen=")?.rsplit_once(' ')?;
    let proto = match kind {
        "(Stream)" => "tcp",
        "(Datagram)" => "udp",
        _ => return None,
    };
    Some(Port { proto, number: address.rsplit_once(':')?.1.parse().ok()? })
}

/// What listens on a port, by name where that is known.
fn service(port: Port) -> Result<Option<String>, Error> {
    let mut ss = Command::new("ss");
    let filter = format!("sport = :{}", port.number);
    let output = ss.args(["-Hlnp", &format!("--{}", port.proto), &filter]).stdin(Stdio::null()).output();
    let output = output.map_err(|why| {
        Error::new(
            Exit::Unavailable,
            format!("cannot run ss, which says whether {port} is in use: {why}; install iproute2"),
        )
    })?;
    Ok(listener(&String::from_utf8_lossy(&output.stdout)))
}

/// The program in lines of ss, such as `... users:(("sshd",pid=1,fd=3))`.
fn listener(lines: &str) -> Option<String> {
    let first = lines.lines().find(|line| !line.trim().is_empty())?;
    let name = first.split_once("users:((\"").and_then(|(_, rest)| rest.split_once('"'));
    Some(name.map_or_else(|| "a program that is not known".to_owned(), |(name, _)| printable(name)))
}

fn unit(port: Port) -> String {
    format!("psentry-{}@{}.socket", port.proto, port.number)
}

fn may_change(context: &Context, port: Port) -> Result<(), Error> {
    let option = format!("services.psentry.{}Ports = [ {} ];", port.proto, port.number);
    context.installed.may_change(&context.installed.conf(), &option)?;
    if geteuid().is_root() { Ok(()) } else { Err(Error::not_root("to change a decoy")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_of_systemd_are_ports_and_ss_names_their_services() {
        for (line, port) in [
            ("Listen=[::]:23 (Stream)", Some("23/tcp")),
            ("Listen=0.0.0.0:161 (Datagram)", Some("161/udp")),
            ("Listen=/run/psentry/events (FIFO)", None),
            ("Id=x", None),
            ("Listen=", None),
        ] {
            assert_eq!(listens(line).map(|port| port.to_string()).as_deref(), port, "{line}");
        }
        let line = "LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:((\"sshd\",pid=1,fd=3))\n";
        assert_eq!(listener(line).as_deref(), Some("sshd"));
        assert_eq!(listener("LISTEN 0 128 *:22 *:*").as_deref(), Some("a program that is not known"));
        assert_eq!(listener("\n"), None);
    }
}
