//! `decoy`, `allow` and `mode`: the settings that commands change. A decoy is a socket of systemd, one unit a port. The ignore file and
//! psentry.conf are written anew in one step, and every other line of them stays.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::unistd::geteuid;
use psentry_installed::{
    Error, Installed, decoys, has_systemd, missing, systemctl, with_line, with_variable,
};
use psentry_records::{Ignore, Prefix};
use psentry_stage::{Exit, Mode, printable, read_if_there, replace_settings};

use crate::cli::Action;
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

/// Shows the addresses that psentry ignores, or changes them.
pub(crate) fn allow(context: &Context, action: Action, scope: Option<Prefix>) -> Result<(), Error> {
    let path = context.installed.etc("ignore");
    let text = text(&path)?;
    let entries = entries(&path, &text);
    let Some(scope) = scope.filter(|_| action != Action::List) else {
        return print_lines(context, entries.iter().map(|(_, prefix)| prefix.short()));
    };
    let name = scope.short();
    if action == Action::Add && scope.len() == 0 {
        let why = "is everybody, so that psentry would act on nobody; for that: psentry mode observe";
        return Err(Error(Exit::Usage, format!("{name} {why}")));
    }
    let named = entries.iter().filter(|(_, prefix)| *prefix == scope).map(|(line, _)| *line);
    let named: Vec<usize> = named.collect();
    may_change(&context.installed, &path, &format!("ignore = [ \"{name}\" ]"))?;
    let around = |(_, prefix): &&(usize, Prefix)| {
        prefix.overlaps(scope) && prefix.len() <= scope.len() && (action == Action::Add || *prefix != scope)
    };
    let around =
        entries.iter().find(around).map(|(line, prefix)| format!("{} in line {line}", prefix.short()));
    let changed = match (action, &around) {
        (Action::Add, Some(around)) => return print(&format!("{name} is left alone already, by {around}\n")),
        (Action::Add, None) => with_line(&text, &name),
        _ => without(&text, &named),
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
    let entries = entries(&path, &text(&path)?);
    let line = entries.iter().find(|(_, prefix)| prefix.overlaps(scope));
    Ok(line.map(|(line, prefix)| format!("{} in line {line} of {}", prefix.short(), path.display())))
}

/// The lines that name somebody, each with its number. One that is wrong costs no other line, and is reported.
fn entries(path: &Path, text: &str) -> Vec<(usize, Prefix)> {
    let (entries, wrong) = Ignore::parse_lines(path, text.as_bytes());
    for wrong in wrong {
        eprintln!("psentry: {wrong}");
    }
    entries
}

/// The text without the lines of these numbers.
fn without(text: &str, numbers: &[usize]) -> String {
    let lines = (1..).zip(text.split_inclusive('\n'));
    lines.filter(|(number, _)| !numbers.contains(number)).map(|(_, line)| line).collect()
}

fn text(path: &Path) -> Result<String, Error> {
    let bytes = read_if_there(path).map_err(Error::file("read", path))?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    replace_settings(path, text).map_err(Error::file("write", path))
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
    let Some(wanted) = wanted else {
        return print_lines(context, [installed.mode()?.name().to_owned()].into_iter());
    };
    let (conf, name) = (installed.etc("psentry.conf"), wanted.name());
    may_change(installed, &conf, &format!("mode = \"{name}\""))?;
    let text = text(&conf)?;
    let changed = with_variable(&text, &["MODE", "OBSERVE"], name);
    if changed == text {
        return print(&format!("psentry is set to {name} already\n"));
    }
    write(&conf, &changed)?;
    if !has_systemd() {
        return print(&format!("MODE={name} is in {}; restart the stages to make it so\n", conf.display()));
    }
    systemctl("daemon-reload")?;
    systemctl("restart psentry.target")?;
    let stay = if wanted == Mode::Observe {
        "; whoever is blocked stays so until it ends: psentry list"
    } else {
        ""
    };
    print(&format!("psentry is set to {name}, and its services are restarted; see 'psentry status'{stay}\n"))
}

#[cfg(test)]
mod tests;
