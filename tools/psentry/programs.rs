//! The other programs of the suite, and systemctl: found beside this one or in PATH, and given a list of arguments. There is no
//! shell between.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, io};

use psentry_stage::{Exit, printable};

use crate::Error;
use crate::cli::Mode;
use crate::installed::Installed;

/// A program of the suite: the one beside this one, or whichever PATH has.
pub(crate) fn sibling(name: &str) -> Command {
    let beside = env::current_exe().ok().map(|own| own.with_file_name(name)).filter(|path| path.exists());
    Command::new(beside.unwrap_or_else(|| PathBuf::from(name)))
}

/// That a program cannot be started.
pub(crate) fn missing(name: &str) -> impl FnOnce(io::Error) -> Error {
    let name = name.to_owned();
    move |why| Error::new(Exit::Unavailable, format!("cannot run {name}: {why}; is it installed?"))
}

/// What systemctl prints.
pub(crate) fn systemctl(words: &[&str]) -> Result<String, Error> {
    let output = Command::new("systemctl").args(words).stdin(Stdio::null()).output();
    let output = output.map_err(missing("systemctl"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let why = printable(String::from_utf8_lossy(&output.stderr).trim());
    Err(Error::new(Exit::Os, format!("systemctl {}: {why}", words.join(" "))))
}

/// Whether systemd runs here.
pub(crate) fn has_systemd() -> bool {
    Path::new("/run/systemd/system").exists()
}

/// psentry-block with the flags of the installed one. One that runs has its own, and a command does not repeat them.
pub(crate) fn block(installed: &Installed, runs: bool) -> Command {
    let mut command = sibling("psentry-block");
    command.arg("--state").arg(installed.path("var/lib/psentry-block"));
    if !runs {
        command.arg("--allow").arg(installed.etc("ignore")).args(installed.words("BLOCK"));
    }
    command
}

/// The flags by which the installed judge judges, without what it keeps and passes on.
pub(crate) fn judging(installed: &Installed, policy: &Path) -> Result<Vec<String>, Error> {
    let ignore = installed.etc("ignore");
    let mut flags = Vec::new();
    for (flag, file) in
        [("--policy", policy), ("--ignore", &ignore)].into_iter().filter(|(_, file)| file.exists())
    {
        flags.extend([flag.to_owned(), file.display().to_string()]);
    }
    flags.extend((installed.mode()? == Mode::Observe).then(|| "--observe".to_owned()));
    let mut words = installed.words("JUDGE").into_iter();
    while let Some(word) = words.next() {
        match word.split_once('=').map_or(word.as_str(), |(flag, _)| flag) {
            "--pass" => {}
            "--state" | "--metrics" => drop((!word.contains('=')).then(|| words.next())),
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
        let (_root, installed) =
            with_conf("OBSERVE=--observe\nJUDGE=--trigger 1 --metrics /m --pass --state=/s --duration 1d\n");
        let policy = installed.etc("policy.toml");
        let flags = |policy| judging(&installed, policy).unwrap().join(" ");
        assert_eq!(flags(&policy), "--observe --trigger 1 --duration 1d");
        std::fs::write(&policy, "").unwrap();
        assert_eq!(
            flags(&policy),
            format!("--policy {} --observe --trigger 1 --duration 1d", policy.display())
        );
    }
}
