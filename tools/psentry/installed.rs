//! Where the installed suite is, and its settings: /etc/psentry, the log and the control sockets, also where flags in
//! psentry.conf name other places.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use psentry_stage::Exit;

use crate::Error;
use crate::cli::Mode;
use crate::siblings::systemctl;

/// The suite as it is installed below a root, which is `/` but for tests.
pub(crate) struct Installed {
    root: PathBuf,
    /// The lines of psentry.conf; `None`: there is no such file.
    settings: Option<Settings>,
}

impl Installed {
    /// Reads the settings.
    ///
    /// # Errors
    /// psentry.conf is there and cannot be read.
    pub(crate) fn below(root: &Path) -> Result<Self, Error> {
        let conf = root.join("etc/psentry/psentry.conf");
        let settings = match fs::read_to_string(&conf) {
            Ok(text) => Some(Settings::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::file("read", &conf)(error)),
        };
        Ok(Installed { root: root.to_owned(), settings })
    }

    /// A file of the suite, by its path without the first slash.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// What the services are started with.
    pub(crate) fn conf(&self) -> PathBuf {
        self.path("etc/psentry/psentry.conf")
    }

    /// Whom no stage acts on.
    pub(crate) fn ignore(&self) -> PathBuf {
        self.path("etc/psentry/ignore")
    }

    /// What convicts.
    pub(crate) fn policy(&self) -> PathBuf {
        self.path("etc/psentry/policy.toml")
    }

    /// The log of all records.
    pub(crate) fn log(&self) -> PathBuf {
        let named = self.flag("BLOCK", "--log").and_then(|log| {
            let (rest, _) = log.rsplit_once(',')?;
            Some(PathBuf::from(rest.rsplit_once(',')?.0))
        });
        named.unwrap_or_else(|| self.path("var/log/psentry/records.jsonl"))
    }

    /// The control socket of a tool, whose flags that variable has.
    pub(crate) fn socket(&self, variable: &str, tool: &str) -> PathBuf {
        let named = self.flag(variable, "--control").map(PathBuf::from);
        named.unwrap_or_else(|| self.path(&format!("run/{tool}/control")))
    }

    /// The words of a variable of psentry.conf.
    pub(crate) fn words(&self, variable: &str) -> Vec<String> {
        self.settings.as_ref().map(|settings| settings.words(variable)).unwrap_or_default()
    }

    /// The last value of a flag among those words.
    fn flag(&self, variable: &str, flag: &str) -> Option<String> {
        let words = self.words(variable);
        let joined = format!("{flag}=");
        let values = words.iter().enumerate().filter_map(|(at, word)| match word.strip_prefix(&joined) {
            Some(value) => Some(value.to_owned()),
            None => words.get(at + 1).filter(|_| word == flag).cloned(),
        });
        values.last()
    }

    /// Whether it observes; where there is no psentry.conf, by the flags in the judge's unit.
    ///
    /// # Errors
    /// psentry.conf says neither.
    pub(crate) fn mode(&self) -> Result<Mode, Error> {
        match &self.settings {
            Some(settings) => settings
                .mode()
                .map_err(|why| Error::new(Exit::Config, format!("{}: {why}", self.conf().display()))),
            None => {
                let unit = systemctl(&["show", "-p", "ExecStart", "psentry-judge.service"]);
                let observes = unit.is_ok_and(|text| text.contains("--observe"));
                Ok(if observes { Mode::Observe } else { Mode::Block })
            }
        }
    }

    /// Refuses a change of settings that NixOS declares, and names the option.
    ///
    /// # Errors
    /// They are declared.
    pub(crate) fn may_change(&self, file: &Path, option: &str) -> Result<(), Error> {
        let is_in_store = fs::canonicalize(file).is_ok_and(|target| target.starts_with("/nix/store"));
        if !is_in_store && !self.path("etc/NIXOS").exists() {
            return Ok(());
        }
        let why = "NixOS declares this setting; nothing is changed. Put this into the configuration, and switch to it";
        Err(Error::new(Exit::Unavailable, format!("{why}:\n\n    {option}\n")))
    }
}

/// The lines of psentry.conf, as systemd reads an EnvironmentFile.
struct Settings(BTreeMap<String, String>);

impl Settings {
    fn parse(text: &str) -> Self {
        let text = text.replace("\\\n", "");
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
        let pair = |line: &str| {
            let (name, value) = line.split_once('=')?;
            let value = value.trim();
            let bare = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
            Some((name.trim().to_owned(), bare.unwrap_or(value).to_owned()))
        };
        Settings(lines.filter_map(pair).collect())
    }

    fn words(&self, variable: &str) -> Vec<String> {
        let value = self.0.get(variable).map_or("", String::as_str);
        shlex::split(value).unwrap_or_else(|| value.split_whitespace().map(str::to_owned).collect())
    }

    /// As MODE= says, or as OBSERVE= of an earlier psentry does.
    fn mode(&self) -> Result<Mode, String> {
        match (self.0.get("MODE").map(String::as_str), self.0.get("OBSERVE").map(String::as_str)) {
            (Some("observe"), _) | (None, Some("--observe")) => Ok(Mode::Observe),
            (Some("block"), _) | (None, Some("") | None) => Ok(Mode::Block),
            (Some(_), _) => Err("MODE= is neither observe nor block; set it by 'psentry mode'".to_owned()),
            (None, _) => {
                Err("OBSERVE= is neither --observe nor empty; set MODE= by 'psentry mode'".to_owned())
            }
        }
    }
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
        assert_eq!(installed.socket("TRAP", "psentry-trap"), root.path().join("run/psentry-trap/control"));
        let (_root, installed) = with_conf(
            "BLOCK=\"--backend nft --log '/srv/a,b.jsonl,64M,10' \\\n  --control=/run/c\"\nTRAP=--control /run/t\n",
        );
        assert_eq!(installed.log(), Path::new("/srv/a,b.jsonl"));
        assert_eq!(installed.socket("BLOCK", "psentry-block"), Path::new("/run/c"));
        assert_eq!(installed.socket("TRAP", "psentry-trap"), Path::new("/run/t"));
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
        assert!(installed.may_change(&installed.conf(), "x").is_ok());
        fs::write(root.path().join("etc/NIXOS"), "").unwrap();
        let error = installed.may_change(&installed.conf(), "services.psentry.observe = false;").unwrap_err();
        assert!(error.to_string().contains("services.psentry.observe = false;"), "{error}");
    }
}
