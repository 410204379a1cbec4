//! What the evaluator of tests/nix makes of a configuration, and the package that it is evaluated with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::HERE;
use crate::lab::bin;

/// What jq makes of a result: a part for each unit and file.
const LISTING: &str = r#"(.units | to_entries[] | "=== \(.key)", .value),
    (.etc | to_entries[] | "=== etc/\(.key)", .value.text),
    "=== sysusers", .sysusers, "=== tmpfiles", .tmpfiles,
    "=== firewall", (.firewall | to_entries[] | select(.key | startswith("allowed")) | "\(.key) \(.value | sort | map(tostring) | join(" "))"),
    (.firewall.extraInputRules | select(. != "")),
    "=== warnings", .warnings[], "=== check", .checks[]"#;

/// A folder with the built package as nix/package.nix lays it out, and a place for files of the store.
pub struct Store {
    pub folder: tempfile::TempDir,
}

impl Store {
    /// With the programs under test.
    pub fn new() -> Self {
        let store = Store { folder: tempfile::tempdir().unwrap() };
        let (programs, lib) = (store.path("psentry/bin"), store.path("psentry/lib/psentry"));
        fs::create_dir_all(&programs).unwrap();
        fs::create_dir_all(&lib).unwrap();
        for name in
            ["psentry", "psentry-listen", "psentry-trap", "psentry-judge", "psentry-block", "psentry-show"]
        {
            fs::copy(bin(name), programs.join(name)).unwrap();
        }
        fs::copy(Path::new(HERE).join("units/selftest"), lib.join("selftest")).unwrap();
        fs::copy(Path::new(HERE).join("units/etc/ports"), lib.join("ports")).unwrap();
        store
    }

    /// A place in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Evaluates a Nix file of tests/nix, away from whatever Nix this machine may have.
    pub fn evaluate(&self, file: &str, arguments: &[&str]) -> Output {
        Command::new("nix-instantiate")
            .args(["--eval", "--strict", "--json"])
            .arg(Path::new(HERE).join("tests/nix").join(file))
            .args(arguments)
            .env("NIX_STATE_DIR", self.path("nix/state"))
            .env("NIX_STORE_DIR", self.path("nix/store"))
            .env("NIX_CONFIG", "build-users-group =")
            .env("HOME", self.folder.path())
            .output()
            .expect("nix-instantiate comes with the package nix-bin")
    }

    /// What comes of a configuration, or why it is refused.
    pub fn configuration(&self, case: &Path) -> Result<Made<'_>, String> {
        let lib = std::env::var("NIXPKGS_LIB").unwrap_or_default();
        let prefix = self.folder.path().to_str().unwrap();
        let arguments = [
            "--arg",
            "configuration",
            case.to_str().unwrap(),
            "--argstr",
            "prefix",
            prefix,
            "--argstr",
            "nixpkgsLib",
            &lib,
        ];
        let output = self.evaluate("eval.nix", &arguments);
        match output.status.success() {
            true => Ok(Made { store: self, json: output.stdout }),
            false => Err(String::from_utf8(output.stderr).unwrap()),
        }
    }
}

/// What a filter of jq finds in JSON, strings without quotes.
pub fn jq(json: &[u8], filter: &str) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), json).unwrap();
    let output = Command::new("jq").args(["-r", filter]).arg(file.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What comes of a configuration.
pub struct Made<'a> {
    store: &'a Store,
    json: Vec<u8>,
}

impl Made<'_> {
    fn jq(&self, filter: &str) -> String {
        jq(&self.json, filter)
    }

    /// All of it, fact by fact.
    pub fn facts(&self) -> super::facts::Facts {
        let store = self.store.folder.path().to_str().unwrap();
        // A warning names the file of a definition.
        let listing = self.jq(LISTING).replace(store, "/nix/store").replace(&format!("{HERE}/"), "");
        super::facts::of_listing(&listing)
    }

    /// Runs the check that a build of the machine runs, with the real programs.
    pub fn build(&self) -> Output {
        for file in self.jq(".etc[].path").lines() {
            fs::write(file, self.jq(&format!(".etc[] | select(.path == \"{file}\") | .text"))).unwrap();
        }
        let script = self.jq(".checks[]");
        let out = self.store.path("out");
        let output = Command::new("bash").args(["-ec", &script]).env("out", &out).output().unwrap();
        let built = fs::remove_file(out).is_ok();
        assert_eq!(built, output.status.success() && !script.trim().is_empty(), "a build is its output");
        output
    }

    /// The text of a unit. A package has its programs in bin; Debian has ipset elsewhere.
    pub fn unit(&self, name: &str) -> String {
        self.jq(&format!(".units[\"{name}\"]")).replace("/usr/bin/ipset", "/usr/sbin/ipset")
    }

    /// Writes the units where systemd-analyze can read them.
    pub fn units(&self) -> (tempfile::TempDir, Vec<PathBuf>) {
        let folder = tempfile::tempdir().unwrap();
        let names = self.jq(".units | keys[]");
        let write = |name: &str| {
            fs::write(folder.path().join(name), self.unit(name)).unwrap();
            folder.path().join(name)
        };
        let files = names.lines().map(write).collect();
        (folder, files)
    }
}
