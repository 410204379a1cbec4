//! `allow` and `mode`: lines of the ignore file and of psentry.conf. Either is written anew in one step, and every other line of it
//! stays. The stages follow the ignore file by themselves.

use std::path::Path;

use clap::ValueEnum;
use psentry_records::{Ignore, Prefix};
use psentry_stage::{Exit, read_if_there, replace_file_like};

use crate::Error;
use crate::cli::{Action, Mode};
use crate::installed::Installed;
use crate::programs::{has_systemd, systemctl};
use crate::rows::short;
use crate::run::{Context, print, print_lines};

/// Shows whom psentry leaves alone, or changes that.
pub(crate) fn allow(context: &Context, action: Action, scope: Option<Prefix>) -> Result<(), Error> {
    let path = context.installed.etc("ignore");
    let text = text(&path)?;
    let entries = entries(&path, &text)?;
    let Some(scope) = scope.filter(|_| action != Action::List) else {
        return print_lines(context, entries.iter().map(|(_, prefix)| short(*prefix)));
    };
    let name = short(scope);
    context.installed.may_change(&path, &format!("ignore = [ \"{name}\" ]"))?;
    let around =
        |(_, prefix): &&(usize, Prefix)| holds(*prefix, scope) && (action == Action::Add || *prefix != scope);
    let around =
        entries.iter().find(around).map(|(line, prefix)| format!("{} in line {line}", short(*prefix)));
    let changed = match (action, &around) {
        (Action::Add, Some(around)) => return print(&format!("{name} is left alone already, by {around}\n")),
        (Action::Add, None) => added(&text, &name),
        _ if entries.iter().any(|(_, prefix)| *prefix == scope) => removed(&text, scope),
        _ => return Err(Error::new(Exit::No, format!("{} has no line for {name}", path.display()))),
    };
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
    Ignore::parse(path, text.as_bytes()).map_err(|why| Error::new(Exit::Config, why.to_string()))?;
    Ok((1..).zip(text.lines()).filter_map(|(number, line)| Some((number, entry(line)?))).collect())
}

fn entry(line: &str) -> Option<Prefix> {
    Ignore::parse(Path::new(""), line.as_bytes()).ok()?.first().copied()
}

fn holds(outer: Prefix, inner: Prefix) -> bool {
    outer.overlaps(inner) && outer.len() <= inner.len()
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

fn write(path: &Path, text: &str) -> Result<(), Error> {
    replace_file_like(path, path, 0o644, text.as_bytes()).map_err(Error::file("write", path))
}

/// Shows whether psentry observes or blocks, or sets it and restarts the services.
pub(crate) fn mode(context: &Context, wanted: Option<Mode>) -> Result<(), Error> {
    let installed = &context.installed;
    let Some(wanted) = wanted else { return print_lines(context, [name(installed.mode()?)].into_iter()) };
    let (conf, name) = (installed.etc("psentry.conf"), name(wanted));
    installed.may_change(&conf, &format!("observe = {}", wanted == Mode::Observe))?;
    let text = text(&conf)?;
    let changed = with_mode(&text, &name);
    if changed == text {
        return print(&format!("psentry is set to {name} already\n"));
    }
    write(&conf, &changed)?;
    if !has_systemd() {
        return print(&format!("MODE={name} is in {}; restart the stages to make it so\n", conf.display()));
    }
    systemctl(&["daemon-reload"])?;
    systemctl(&["restart", "psentry.target"])?;
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
mod tests {
    use super::*;

    #[test]
    fn lines_are_added_and_removed_and_the_others_stay() {
        let text = "# mine\n192.0.2.0/24 # the office\n\n2001:DB8::/32\r\n192.0.2.7";
        let scope = |text: &str| text.parse::<Prefix>().unwrap();
        assert_eq!(added(text, "198.51.100.7"), format!("{text}\n198.51.100.7\n"));
        assert_eq!(added("", "198.51.100.0/24"), "198.51.100.0/24\n");
        assert_eq!(removed(text, scope("2001:db8::/32")), "# mine\n192.0.2.0/24 # the office\n\n192.0.2.7");
        assert_eq!(removed(text, scope("192.0.2.0/24")), "# mine\n\n2001:DB8::/32\r\n192.0.2.7");
        let (office, host) = (scope("192.0.2.0/24"), scope("192.0.2.7"));
        assert!(holds(office, host) && !holds(host, office));
        assert!(
            entries(Path::new("/x"), "192.0.2.7\nhost.example\n").unwrap_err().to_string().contains("line 2")
        );
    }

    #[test]
    fn one_line_says_the_mode_and_the_others_stay() {
        for (text, changed) in [
            ("# x\nOBSERVE=--observe\nJUDGE=\n", "# x\nMODE=block\nJUDGE=\n"),
            ("MODE=observe\nOBSERVE=\nBLOCK=\n", "MODE=block\nBLOCK=\n"),
            ("#MODE=observe\nBLOCK=", "#MODE=observe\nBLOCK=\nMODE=block\n"),
            ("MODE=block\n", "MODE=block\n"),
        ] {
            assert_eq!(with_mode(text, "block"), changed);
        }
    }
}
