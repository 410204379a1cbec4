//! The suite as it is installed: its settings in /etc/psentry, the log, the control sockets, also where flags in psentry.conf name
//! others; its programs, found beside this one or in PATH; and systemctl. There is no shell between.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs, io};

use psentry_control::{Question, Reply, Silence, ask};
use psentry_stage::{Exit, parse_mode, printable, read_if_there};

use crate::Error;
use crate::cli::Mode;

/// How long a tool may take: longer than it waits for the kernel itself.
const LIMIT: Duration = Duration::from_secs(17);

/// The tools that shut somebody out, and the variable of psentry.conf with their flags.
const TOOLS: [(&str, &str); 2] = [("psentry-trap", "TRAP"), ("psentry-block", "BLOCK")];

/// The suite below a root, which is `/` but for tests.
pub(crate) struct Installed {
    root: PathBuf,
    /// The lines of psentry.conf, as systemd reads an EnvironmentFile; `None`: there is no such file.
    settings: Option<BTreeMap<String, String>>,
}

/// What a tool answered, or why not.
pub(crate) struct Answer {
    pub(crate) tool: &'static str,
    pub(crate) reply: Reply,
    pub(crate) error: Option<Error>,
    /// Nobody listens there.
    pub(crate) is_absent: bool,
}

impl Installed {
    /// Reads the settings.
    pub(crate) fn below(root: &Path) -> Result<Self, Error> {
        let mut installed = Installed { root: root.to_owned(), settings: None };
        let conf = installed.etc("psentry.conf");
        let bytes = read_if_there(&conf).map_err(Error::file("read", &conf))?;
        installed.settings = bytes.map(|bytes| settings(&String::from_utf8_lossy(&bytes)));
        Ok(installed)
    }

    /// A file of the suite, by its path without the first slash.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// A file of its settings.
    pub(crate) fn etc(&self, name: &str) -> PathBuf {
        self.path("etc/psentry").join(name)
    }

    /// The log of all records.
    pub(crate) fn log(&self) -> PathBuf {
        let log = self.flag("BLOCK", "--log").unwrap_or_default();
        let named = log.rsplit_once(',').and_then(|(rest, _)| rest.rsplit_once(','));
        named.map_or_else(|| self.path("var/log/psentry/records.jsonl"), |(path, _)| path.into())
    }

    /// The words of a variable of psentry.conf.
    pub(crate) fn words(&self, variable: &str) -> Vec<String> {
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
    pub(crate) fn ask_all(&self, question: &Question) -> [Answer; 2] {
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
    pub(crate) fn mode(&self) -> Result<Mode, Error> {
        let Some(settings) = &self.settings else {
            let unit = systemctl("show -p ExecStart psentry-judge.service");
            let observes = unit.is_ok_and(|text| text.contains("--observe"));
            return Ok(if observes { Mode::Observe } else { Mode::Block });
        };
        // As the units give it to --mode.
        let value = |name: &str| settings.get(name).map_or("", String::as_str);
        match parse_mode(&format!("{}{}", value("MODE"), value("OBSERVE"))) {
            Ok(psentry_stage::Mode::Observe) => Ok(Mode::Observe),
            Ok(_) => Ok(Mode::Block),
            Err(_) => Err(Error(
                Exit::Config,
                "psentry.conf: MODE= is neither observe nor block, or OBSERVE= is there, too; set it by 'psentry mode'".to_owned(),
            )),
        }
    }

    /// The words of a variable, and before them that the addresses of the ignore file are left alone.
    pub(crate) fn sparing(&self, variable: &str) -> Vec<String> {
        let ignore = Some(self.etc("ignore")).filter(|ignore| ignore.exists());
        let ignore = ignore.map(|ignore| format!("--allow={}", ignore.display()));
        ignore.into_iter().chain(self.words(variable)).collect()
    }

    /// psentry-block with its installed flags. One that runs has its own, and a command does not repeat them.
    pub(crate) fn block(&self, runs: bool) -> Command {
        let mut command = sibling("psentry-block");
        command.arg("--state").arg(self.path("var/lib/psentry-block"));
        command.args(if runs { Vec::new() } else { self.sparing("BLOCK") });
        command
    }

    /// The flags by which the installed judge judges, without what it keeps and passes on; or with another policy.
    pub(crate) fn judging(&self, other: Option<&Path>) -> Result<Vec<String>, Error> {
        let policy = other.map_or_else(|| self.etc("policy.toml"), Path::to_owned);
        let files = [("--policy", policy), ("--ignore", self.etc("ignore"))].into_iter();
        let files = files.filter(|(_, file)| file.exists() || other == Some(file));
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

fn settings(text: &str) -> BTreeMap<String, String> {
    let text = text.replace("\\\n", "");
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
    let pair = |line: &str| {
        let (name, value) = line.split_once('=')?;
        let value = value.trim();
        let bare = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
        Some((name.trim().to_owned(), bare.unwrap_or(value).to_owned()))
    };
    lines.filter_map(pair).collect()
}

/// A program of the suite: the one beside this one, or whichever PATH has.
pub(crate) fn sibling(name: &str) -> Command {
    let beside = env::current_exe().ok().map(|own| own.with_file_name(name)).filter(|path| path.exists());
    Command::new(beside.unwrap_or_else(|| name.into()))
}

/// That a program cannot be started.
pub(crate) fn missing(name: &str) -> impl FnOnce(io::Error) -> Error {
    let name = name.to_owned();
    move |why| Error(Exit::Unavailable, format!("cannot run {name}: {why}; is it installed?"))
}

/// What systemctl prints.
pub(crate) fn systemctl(words: &str) -> Result<String, Error> {
    let output = Command::new("systemctl").args(words.split_whitespace()).stdin(Stdio::null()).output();
    let output = output.map_err(missing("systemctl"))?;
    let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
    let why = || Error(Exit::Os, format!("systemctl {words}: {}", printable(&text(&output.stderr))));
    output.status.success().then(|| text(&output.stdout)).ok_or_else(why)
}

/// Whether systemd runs here.
pub(crate) fn has_systemd() -> bool {
    fs::exists("/run/systemd/system").unwrap_or(false)
}

#[cfg(test)]
pub(crate) mod tests;
