//! Where the installed suite is, and its settings: /etc/psentry, the log and the control sockets, also where flags in
//! psentry.conf name other places. Each tool with a control socket is asked there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use psentry_control::{Reply, Silence, ask};
use psentry_stage::{Exit, read_if_there};

use crate::Error;
use crate::cli::Mode;
use crate::programs::systemctl;

/// How long a tool may take: longer than it waits for the kernel itself.
const LIMIT: Duration = Duration::from_secs(17);

/// The tools that shut somebody out, and the variable of psentry.conf with their flags.
const TOOLS: [(&str, &str); 2] = [("psentry-trap", "TRAP"), ("psentry-block", "BLOCK")];

/// The suite as it is installed below a root, which is `/` but for tests.
pub(crate) struct Installed {
    root: PathBuf,
    /// The lines of psentry.conf, as systemd reads an EnvironmentFile; `None`: there is no such file.
    settings: Option<BTreeMap<String, String>>,
}

/// What a tool answered, or why not.
pub(crate) struct Answer {
    pub(crate) tool: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) reply: Result<Reply, Silence>,
}

impl Answer {
    /// Its own lines.
    pub(crate) fn lines(&self) -> &[String] {
        self.reply.as_ref().map_or(&[], |reply| &reply.lines)
    }

    /// Whether nobody listens there.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self.reply, Err(Silence::Absent | Silence::Dead))
    }
}

impl Installed {
    /// Reads the settings.
    pub(crate) fn below(root: &Path) -> Result<Self, Error> {
        let mut installed = Installed { root: root.to_owned(), settings: None };
        let conf = installed.path("etc/psentry/psentry.conf");
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
        self.root.join("etc/psentry").join(name)
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
        let (words, joined) = (self.words(variable), format!("{flag}="));
        let value = |(at, word): (usize, &String)| match word.strip_prefix(&joined) {
            Some(value) => Some(value.to_owned()),
            None => words.get(at + 1).filter(|_| word == flag).cloned(),
        };
        words.iter().enumerate().rev().find_map(value)
    }

    /// Asks both tools, psentry-trap first.
    pub(crate) fn ask_all(&self, question: &[u8]) -> [Answer; 2] {
        TOOLS.map(|(tool, variable)| {
            let default = || self.path(&format!("run/{tool}/control"));
            let path = self.flag(variable, "--control").map_or_else(default, PathBuf::from);
            Answer { tool, reply: ask(&path, question, LIMIT), path }
        })
    }

    /// Whether it observes: as MODE= says, or OBSERVE= of an earlier psentry, or without psentry.conf the judge's unit.
    pub(crate) fn mode(&self) -> Result<Mode, Error> {
        let Some(settings) = &self.settings else {
            let unit = systemctl(&["show", "-p", "ExecStart", "psentry-judge.service"]);
            let observes = unit.is_ok_and(|text| text.contains("--observe"));
            return Ok(if observes { Mode::Observe } else { Mode::Block });
        };
        let value = |name: &str| settings.get(name).map(String::as_str);
        match (value("MODE"), value("OBSERVE")) {
            (Some("observe"), _) | (None, Some("--observe")) => Ok(Mode::Observe),
            (Some("block"), _) | (None, Some("") | None) => Ok(Mode::Block),
            _ => Err(Error::new(
                Exit::Config,
                format!("{}: MODE= is neither observe nor block", self.etc("psentry.conf").display()),
            )),
        }
    }

    /// Refuses a change of settings that NixOS declares, and names the option.
    pub(crate) fn may_change(&self, file: &Path, option: &str) -> Result<(), Error> {
        let is_in_store = fs::canonicalize(file).is_ok_and(|target| target.starts_with("/nix/store"));
        if !is_in_store && !self.path("etc/NIXOS").exists() {
            return Ok(());
        }
        let why =
            "NixOS declares this, so nothing is changed. Put this into its configuration, and switch to it";
        Err(Error::new(Exit::Unavailable, format!("{why}:\n\n    services.psentry.{option};\n")))
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A suite with these settings.
    pub(crate) fn with_conf(text: &str) -> (tempfile::TempDir, Installed) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc/psentry")).unwrap();
        fs::write(root.path().join("etc/psentry/psentry.conf"), text).unwrap();
        let installed = Installed::below(root.path()).unwrap();
        (root, installed)
    }

    #[test]
    fn places_are_the_default_ones_or_those_that_flags_name() {
        let (root, installed) = with_conf("# BLOCK=--log /x,1M,2\nBLOCK=--backend nft\n");
        assert_eq!(installed.log(), root.path().join("var/log/psentry/records.jsonl"));
        let paths = |installed: &Installed| installed.ask_all(b"x\n").map(|answer| answer.path);
        let default =
            ["run/psentry-trap/control", "run/psentry-block/control"].map(|path| root.path().join(path));
        assert_eq!(paths(&installed), default);
        let (_root, installed) = with_conf(
            "BLOCK=\"--backend nft --log '/srv/a,b.jsonl,64M,10' \\\n  --control=/none/c\"\nTRAP=--control /none/t\n",
        );
        assert_eq!(installed.log(), Path::new("/srv/a,b.jsonl"));
        assert_eq!(paths(&installed), ["/none/t", "/none/c"].map(PathBuf::from));
    }

    #[test]
    fn the_mode_is_a_word_or_the_flag_of_old() {
        for (conf, mode) in [
            ("MODE=observe\n", Some(Mode::Observe)),
            ("MODE=\"block\"\nOBSERVE=--observe\n", Some(Mode::Block)),
            ("OBSERVE=--observe\n", Some(Mode::Observe)),
            ("OBSERVE=\n", Some(Mode::Block)),
            ("OBSERVE=no\n", None),
            ("MODE=\n", None),
        ] {
            let (_root, installed) = with_conf(conf);
            assert_eq!(installed.mode().ok(), mode, "{conf}");
        }
    }

    #[test]
    fn what_nixos_declares_is_not_changed() {
        let (root, installed) = with_conf("");
        let conf = installed.etc("psentry.conf");
        assert!(installed.may_change(&conf, "x").is_ok());
        fs::write(root.path().join("etc/NIXOS"), "").unwrap();
        let error = installed.may_change(&conf, "observe = false").unwrap_err();
        assert!(error.to_string().contains("services.psentry.observe = false;"), "{error}");
    }
}
