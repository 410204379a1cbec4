//! The suite as it is installed: its settings in /etc/psentry, the log, the control sockets, also where flags in psentry.conf name
//! others; its programs, found beside this one or in PATH; and systemctl. There is no shell between.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, io};

use psentry_control::{Question, Reply, Silence, ask};
use psentry_stage::{Exit, Mode, parse_mode, read_if_there};

use crate::{Error, systemctl, variables};

/// How long a tool may take: longer than it waits for the kernel itself.
const LIMIT: Duration = Duration::from_secs(17);

/// The tools that shut somebody out, and the variable of psentry.conf with their flags.
const TOOLS: [(&str, &str); 2] = [("psentry-trap", "TRAP"), ("psentry-block", "BLOCK")];

/// What is wrong where the mode cannot be told.
const NO_MODE: &str = "MODE= is neither observe nor block, or OBSERVE= is there, too";

/// The suite below a root, which is `/` but for tests.
pub struct Installed {
    root: PathBuf,
    /// The lines of psentry.conf, as systemd reads an EnvironmentFile; `None`: there is no such file.
    settings: Option<BTreeMap<String, String>>,
}

/// What a tool answered, or why not.
pub struct Answer {
    /// Its program.
    pub tool: &'static str,
    /// What it said; nothing where it does not answer.
    pub reply: Reply,
    /// Why it did not answer.
    pub error: Option<Error>,
    /// Nobody listens there.
    pub is_absent: bool,
}

impl Installed {
    /// Reads the settings.
    ///
    /// # Errors
    /// psentry.conf is there and cannot be read.
    pub fn below(root: &Path) -> Result<Self, Error> {
        let mut installed = Installed { root: root.to_owned(), settings: None };
        let conf = installed.etc("psentry.conf");
        let bytes = read_if_there(&conf).map_err(Error::file("read", &conf))?;
        installed.settings = bytes.map(|bytes| variables(&String::from_utf8_lossy(&bytes)));
        Ok(installed)
    }

    /// A file of the suite, by its path without the first slash.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// A file of its settings.
    #[must_use]
    pub fn etc(&self, name: &str) -> PathBuf {
        self.path("etc/psentry").join(name)
    }

    /// The log of all records.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        let log = self.flag("BLOCK", "--log").unwrap_or_default();
        let named = log.rsplit_once(',').and_then(|(rest, _)| rest.rsplit_once(','));
        named.map_or_else(|| self.path("var/log/psentry/records.jsonl"), |(path, _)| path.into())
    }

    /// The words of a variable of psentry.conf.
    #[must_use]
    pub fn words(&self, variable: &str) -> Vec<String> {
        let value = self.settings.as_ref().and_then(|settings| settings.get(variable));
        value.and_then(|value| shlex::split(value)).unwrap_or_default()
    }

    /// The last value of a flag among those words.
    fn flag(&self, variable: &str, flag: &str) -> Option<String> {
        let words = self.words(variable);
        // A value may have a `=` of its own.
        let words: Vec<String> =
            words.iter().flat_map(|word| word.splitn(2, '=')).map(str::to_owned).collect();
        let at = words.iter().rposition(|word| word == flag)?;
        words.get(at + 1).cloned()
    }

    /// Asks both tools, psentry-trap first.
    #[must_use]
    pub fn ask_all(&self, question: &Question) -> [Answer; 2] {
        TOOLS.map(|(tool, variable)| {
            let default = || self.path(&format!("run/{tool}/control"));
            let path = self.flag(variable, "--control").map_or_else(default, PathBuf::from);
            let answer = |reply, error, is_absent| Answer { tool, reply, error, is_absent };
            ask(&path, &question.line(), LIMIT).map_or_else(
                |silence| {
                    let exit = if silence == Silence::Forbidden { Exit::NoPermission } else { Exit::Os };
                    let is_absent = matches!(silence, Silence::Absent | Silence::Dead);
                    answer(Reply::default(), Some(Error(exit, silence.sentence(&path, tool))), is_absent)
                },
                |reply| answer(reply, None, false),
            )
        })
    }

    /// Whether it observes: as MODE= says, or OBSERVE= of an earlier psentry, or without psentry.conf the judge's unit.
    ///
    /// # Errors
    /// psentry.conf says neither.
    pub fn mode(&self) -> Result<Mode, Error> {
        let Some(settings) = &self.settings else {
            let unit = systemctl("show -p ExecStart psentry-judge.service");
            let observes = unit.is_ok_and(|text| text.contains("--observe"));
            return Ok(if observes { Mode::Observe } else { Mode::Block });
        };
        // As the units give it to --mode.
        let value = |name: &str| settings.get(name).map_or("", String::as_str);
        let mode = parse_mode(&format!("{}{}", value("MODE"), value("OBSERVE")));
        let mode = mode
            .map_err(|_| Error(Exit::Config, format!("psentry.conf: {NO_MODE}; set it by 'psentry mode'")))?;
        Ok(if mode == Mode::Observe { mode } else { Mode::Block })
    }

    /// Whether the units name this file of the settings: those of units/install do, also if it is missing.
    fn is_used(&self, file: &Path) -> bool {
        self.settings.is_some() || file.exists()
    }

    /// The words of a variable, and before them that the addresses of the ignore file are left alone.
    #[must_use]
    pub fn sparing(&self, variable: &str) -> Vec<String> {
        let ignore = Some(self.etc("ignore")).filter(|ignore| self.is_used(ignore));
        let ignore = ignore.map(|ignore| format!("--allow={}", ignore.display()));
        ignore.into_iter().chain(self.words(variable)).collect()
    }

    /// psentry-block with its installed flags. One that runs has its own, and a command does not repeat them.
    #[must_use]
    pub fn block(&self, runs: bool) -> Command {
        let mut command = sibling("psentry-block");
        command.arg("--state").arg(self.path("var/lib/psentry-block"));
        command.args(if runs { Vec::new() } else { self.sparing("BLOCK") });
        command
    }

    /// The flags by which the installed judge judges, without what it keeps and passes on; or with another policy.
    ///
    /// # Errors
    /// As of [`mode`](Self::mode).
    pub fn judging(&self, other: Option<&Path>) -> Result<Vec<String>, Error> {
        let policy = other.map_or_else(|| self.etc("policy.toml"), Path::to_owned);
        let files = [("--policy", policy), ("--ignore", self.etc("ignore"))].into_iter();
        let files = files.filter(|(_, file)| self.is_used(file) || other == Some(file));
        let mut flags: Vec<String> = files.map(|(flag, file)| format!("{flag}={}", file.display())).collect();
        flags.extend((self.mode()? == Mode::Observe).then(|| "--observe".to_owned()));
        let mut words = self.words("JUDGE").into_iter();
        while let Some(word) = words.next() {
            match word.split_once('=').map_or((word.as_str(), false), |(flag, _)| (flag, true)) {
                ("--pass", _) | ("--state" | "--metrics", true) => {}
                ("--state" | "--metrics", false) => drop(words.next()),
                _ => flags.push(word),
            }
        }
        Ok(flags)
    }
}

/// A program of the suite: the one beside this one, or whichever PATH has.
#[must_use]
pub fn sibling(name: &str) -> Command {
    let beside = env::current_exe().ok().map(|own| own.with_file_name(name)).filter(|path| path.exists());
    Command::new(beside.unwrap_or_else(|| name.into()))
}

/// That a program cannot be started.
pub fn missing(name: &str) -> impl FnOnce(io::Error) -> Error {
    let name = name.to_owned();
    move |why| Error(Exit::Unavailable, format!("cannot run {name}: {why}; is it installed?"))
}

#[cfg(test)]
mod tests;
