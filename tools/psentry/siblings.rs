//! The other programs of the suite, and systemctl: found beside this one or in PATH, and given a list of arguments. There is no
//! shell between.

use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use psentry_stage::Exit;

use crate::Error;
use crate::cli::Mode;
use crate::installed::Installed;

/// A program of the suite: the one beside this one, or whichever PATH has.
pub(crate) fn sibling(name: &str) -> Command {
    let beside = env::current_exe().ok().map(|own| own.with_file_name(name)).filter(|path| path.exists());
    Command::new(beside.unwrap_or_else(|| PathBuf::from(name)))
}

/// Runs a program in the place of this one, whose exit code is the program's.
///
/// # Errors
/// It cannot be started, or else it does not return.
pub(crate) fn become_program(mut command: Command) -> Result<(), Error> {
    let why = command.exec();
    Err(not_started(&command, &why))
}

fn not_started(command: &Command, why: &io::Error) -> Error {
    let name = command.get_program().to_string_lossy();
    Error::new(Exit::Unavailable, format!("cannot run {name}: {why}; is psentry installed as a whole?"))
}

/// What systemctl prints.
///
/// # Errors
/// There is none, or it refuses.
pub(crate) fn systemctl(words: &[&str]) -> Result<String, Error> {
    let output = Command::new("systemctl").args(words).stdin(Stdio::null()).output();
    let output = output.map_err(|why| {
        Error::new(Exit::Unavailable, format!("cannot run systemctl: {why}; this takes systemd"))
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let why = psentry_stage::printable(String::from_utf8_lossy(&output.stderr).trim());
    Err(Error::new(Exit::Os, format!("systemctl {}: {why}", words.join(" "))))
}

/// Whether systemd runs here.
pub(crate) fn has_systemd() -> bool {
    Path::new("/run/systemd/system").exists()
}

/// psentry-block with the flags of the installed one. One that runs has its own; a command does not repeat them to it.
pub(crate) fn block(installed: &Installed, runs: bool) -> Command {
    let mut command = sibling("psentry-block");
    command.arg("--state").arg(installed.path("var/lib/psentry-block"));
    command.arg("--control").arg(installed.socket("BLOCK", "psentry-block"));
    if !runs {
        command.arg("--allow").arg(installed.ignore()).args(installed.words("BLOCK"));
    }
    command
}

/// The flags by which the installed judge judges: its policy, without what it keeps and passes on.
///
/// # Errors
/// psentry.conf says neither that it observes nor that it blocks.
pub(crate) fn judging(installed: &Installed, policy: Option<&Path>) -> Result<Vec<String>, Error> {
    let mut flags = Vec::new();
    let installed_policy = installed.policy();
    for (flag, file) in [("--policy", policy.unwrap_or(&installed_policy)), ("--ignore", &installed.ignore())]
    {
        if file.exists() || policy == Some(file) {
            flags.extend([flag.to_owned(), file.display().to_string()]);
        }
    }
    if installed.mode()? == Mode::Observe {
        flags.push("--observe".to_owned());
    }
    let mut words = installed.words("JUDGE").into_iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--pass" => {}
            "--state" | "--metrics" => drop(words.next()),
            _ if word.starts_with("--state=") || word.starts_with("--metrics=") => {}
            _ => flags.push(word),
        }
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::installed::tests::with_conf;

    #[test]
    fn explain_is_given_the_policy_and_nothing_else() {
        let (root, installed) =
            with_conf("OBSERVE=--observe\nJUDGE=--trigger 1 --metrics /m --pass --state=/s --duration 1d\n");
        std::fs::write(installed.policy(), "").unwrap();
        let policy = root.path().join("etc/psentry/policy.toml");
        let is = judging(&installed, None).unwrap().join(" ");
        assert_eq!(is, format!("--policy {} --observe --trigger 1 --duration 1d", policy.display()));
        assert!(judging(&installed, Some(Path::new("/x"))).unwrap().join(" ").starts_with("--policy /x "));
    }
}
