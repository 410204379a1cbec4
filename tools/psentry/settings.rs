//! `decoy`, `allow` and `mode`: the settings that commands change. A decoy is a socket of systemd, one unit a port. The ignore file and
//! psentry.conf are written anew in one step, and every other line of them stays.

use std::fs;
use std::path::Path;
use std::process::Command;

use clap::ValueEnum;
use nix::unistd::geteuid;
use psentry_records::{Ignore, Prefix};
use psentry_stage::{Exit, printable, read_if_there, replace_file_like};

use crate::Error;
use crate::cli::{Action, Mode};
use crate::installed::{Installed, has_systemd, missing, systemctl};
use crate::rows::short;
use crate::run::{Context, print, print_lines};

/// Shows the decoys, or opens or closes the one at a port such as `23/tcp`.
pub(crate) fn decoy(context: &Context, action: Action, port: Option<&str>) -> Result<(), Error> {
    let port = port.filter(|_| action != Action::List);
    let Some((number, proto)) = port.and_then(|port| port.split_once('/')) else {
        return print_lines(context, decoys()?.into_iter());
    };
    let (port, unit) = (format!("{number}/{proto}"), format!("psentry-{proto}@{number}.socket"));
    let installed = &context.installed;
    // What is added goes beside the default list; what is removed is left out of a list that is written whole.
    let option = match action {
        Action::Add => format!("{proto}Ports = lib.mkOptionDefault [ {number} ]"),
        _ => format!("{proto}Ports = [ {number} ]"),
    };
    may_change(installed, &installed.etc("psentry.conf"), &option)?;
    if !geteuid().is_root() {
        return Err(Error::rights("cannot change a decoy"));
    }
    match (action, decoys()?.contains(&port)) {
        (Action::Add, true) => print(&format!("{port} is a decoy already\n")),
        (Action::Add, false) => {
            if let Some(service) = service(number, proto)? {
                return Err(Error(
                    Exit::No,
                    format!("{port} is no port for a decoy: {service} listens there"),
                ));
            }
            systemctl(&format!("enable {unit}"))?;
            systemctl("restart psentry.target")?;
            print(&format!("{port} is a decoy now; the firewall has to let strangers in to it\n"))
        }
        (_, false) => Err(Error(Exit::No, format!("{port} is no decoy; see 'psentry decoy list'"))),
        (_, true) => {
            systemctl(&format!("disable --now {unit}"))?;
            systemctl("restart psentry-listen.service")?;
            print(&format!("{port} is a decoy no more, and free for a service\n"))
        }
    }
}

/// The decoys that are open, as `23/tcp`, by number.
pub(crate) fn decoys() -> Result<Vec<String>, Error> {
    let text = systemctl("show --state=active -p Listen psentry-*.socket")?;
    let mut ports: Vec<(u16, &str)> = text.lines().filter_map(port).collect();
    ports.sort_unstable();
    ports.dedup();
    Ok(ports.into_iter().map(|(number, proto)| format!("{number}/{proto}")).collect())
}

/// The port of a line such as `Listen=[::]:23 (Stream)`; none of a FIFO.
fn port(line: &str) -> Option<(u16, &'static str)> {
    let (address, kind) = line.strip_prefix("Listen=")?.rsplit_once(' ')?;
    let (_, proto) =
        [("(Stream)", "tcp"), ("(Datagram)", "udp")].into_iter().find(|(name, _)| *name == kind)?;
    Some((address.rsplit_once(':')?.1.parse().ok()?, proto))
}

/// What listens on a port, by name where that is known.
fn service(number: &str, proto: &str) -> Result<Option<String>, Error> {
    let args = ["-Hlnp", &format!("--{proto}"), &format!("sport = :{number}")];
    let output = Command::new("ss").args(args).output().map_err(missing("ss"))?;
    Ok(listener(&String::from_utf8_lossy(&output.stdout)))
}

/// The program in lines of ss, such as `... users:(("sshd",pid=1,fd=3))`.
fn listener(lines: &str) -> Option<String> {
    let name = lines.split_once("users:((\"").and_then(|(_, rest)| rest.split_once('"'));
    let name = name.map_or_else(|| "an unknown program".to_owned(), |(name, _)| printable(name));
    (!lines.trim().is_empty()).then_some(name)
}

/// Shows whom psentry leaves alone, or changes that.
pub(crate) fn allow(context: &Context, action: Action, scope: Option<Prefix>) -> Result<(), Error> {
    let path = context.installed.etc("ignore");
    let text = text(&path)?;
    let entries = entries(&path, &text)?;
    let Some(scope) = scope.filter(|_| action != Action::List) else {
        return print_lines(context, entries.iter().map(|(_, prefix)| short(*prefix)));
    };
    let name = short(scope);
    may_change(&context.installed, &path, &format!("ignore = [ \"{name}\" ]"))?;
    let around = |(_, prefix): &&(usize, Prefix)| {
        prefix.overlaps(scope) && prefix.len() <= scope.len() && (action == Action::Add || *prefix != scope)
    };
    let around =
        entries.iter().find(around).map(|(line, prefix)| format!("{} in line {line}", short(*prefix)));
    let changed = match (action, &around) {
        (Action::Add, Some(around)) => return print(&format!("{name} is left alone already, by {around}\n")),
        (Action::Add, None) => added(&text, &name),
        _ => removed(&text, scope),
    };
    if changed == text {
        return Err(Error(Exit::No, format!("{} has no line for {name}", path.display())));
    }
    write(&path, &changed)?;
    let then = around.map_or_else(String::new, |around| format!(", but for {around}"));
    let what = if action == Action::Add { "from now on" } else { "no more" };
    print(&format!(
        "{name} is left alone {what}{then}; the judge, the trap and the blocker follow the file\n"
    ))
}

/// The line of the ignore file that holds a scope, or some of it.
pub(crate) fn ignored(installed: &Installed, scope: Prefix) -> Result<Option<String>, Error> {
    let path = installed.etc("ignore");
    let entries = entries(&path, &text(&path)?)?;
    let line = entries.iter().find(|(_, prefix)| prefix.overlaps(scope));
    Ok(line.map(|(line, prefix)| format!("{} in line {line} of {}", short(*prefix), path.display())))
}

/// The lines that name somebody, each with its number. One that is wrong is an error of the file.
fn entries(path: &Path, text: &str) -> Result<Vec<(usize, Prefix)>, Error> {
    Ignore::parse(path, text.as_bytes()).map_err(|why| Error(Exit::Config, why.to_string()))?;
    Ok((1..).zip(text.lines()).filter_map(|(number, line)| Some((number, entry(line)?))).collect())
}

fn entry(line: &str) -> Option<Prefix> {
    Ignore::parse(Path::new(""), line.as_bytes()).ok()?.first().copied()
}

fn added(text: &str, line: &str) -> String {
    let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{text}{newline}{line}\n")
}

fn removed(text: &str, scope: Prefix) -> String {
    text.split_inclusive('\n').filter(|line| entry(line) != Some(scope)).collect()
}

fn text(path: &Path) -> Result<String, Error> {
    let bytes = read_if_there(path).map_err(Error::file("read", path))?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes a file anew; where it is a link, the file that it leads to.
fn write(path: &Path, text: &str) -> Result<(), Error> {
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    replace_file_like(path, path, 0o644, text.as_bytes()).map_err(Error::file("write", path))
}

/// Refuses a change of settings that NixOS declares, and names the option.
fn may_change(installed: &Installed, file: &Path, option: &str) -> Result<(), Error> {
    let is_in_store = fs::canonicalize(file).is_ok_and(|target| target.starts_with("/nix/store"));
    if !is_in_store && !installed.path("etc/NIXOS").exists() {
        return Ok(());
    }
    let why = "NixOS declares this, so nothing is changed. Put this into its configuration, and switch to it";
    Err(Error(Exit::Unavailable, format!("{why}:\n\n    services.psentry.{option};\n")))
}

/// Shows whether psentry observes or blocks, or sets it and restarts the services.
pub(crate) fn mode(context: &Context, wanted: Option<Mode>) -> Result<(), Error> {
    let installed = &context.installed;
    let Some(wanted) = wanted else { return print_lines(context, [name(installed.mode()?)].into_iter()) };
    let (conf, name) = (installed.etc("psentry.conf"), name(wanted));
    may_change(installed, &conf, &format!("mode = \"{name}\""))?;
    let text = text(&conf)?;
    let changed = with_mode(&text, &name);
    if changed == text {
        return print(&format!("psentry is set to {name} already\n"));
    }
    write(&conf, &changed)?;
    if !has_systemd() {
        return print(&format!("MODE={name} is in {}; restart the stages to make it so\n", conf.display()));
    }
    systemctl("daemon-reload")?;
    systemctl("restart psentry.target")?;
    print(&format!("psentry is set to {name}, and its services are restarted; see 'psentry status'\n"))
}

/// As psentry.conf has it.
pub(crate) fn name(mode: Mode) -> String {
    mode.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// The same settings with another mode: in the place of the line that says it, or at the end.
fn with_mode(text: &str, mode: &str) -> String {
    let says = |line: &&str| ["MODE=", "OBSERVE="].iter().any(|name| line.starts_with(name));
    let line = format!("MODE={mode}");
    let Some(old) = text.lines().find(says) else { return added(text, &line) };
    let others = text.lines().filter(|other| *other == old || !says(other));
    others.map(|other| if other == old { &line } else { other }).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests;
