//! The NixOS half of the suite, without NixOS: the module is evaluated, what it makes is compared with units/, its
//! build-time check is run with the real programs, every backend in the service that it makes, and the script of nix/test.nix on
//! containers.
//!
//! `nix/cases/NAME.nix` is a configuration. It is accepted, and `NAME.differs` says how what comes of it differs from the
//! default, or for the default itself from units/. If the name begins with `refused-` it does not evaluate, with
//! `unbuilt-` it does not build, for the reason that `NAME.says` quotes.

mod backends;
mod facts;
mod made;
mod pages;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::lab::Booted;

use made::Store;

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// The cases whose names begin so.
fn cases(beginning: &str) -> Vec<PathBuf> {
    let folder = Path::new(HERE).join("tests/nix/cases");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let stem = |file: &PathBuf| file.file_stem().unwrap().to_str().unwrap().to_owned();
    files.retain(|file| file.extension().is_some_and(|e| e == "nix") && stem(file).starts_with(beginning));
    files.retain(|file| {
        !beginning.is_empty() || !(stem(file).starts_with("refused-") || stem(file).starts_with("unbuilt-"))
    });
    files
}

fn says(case: &Path) -> String {
    fs::read_to_string(case.with_extension("says")).unwrap().trim_end().to_owned()
}

#[test]
fn what_is_accepted_differs_from_the_default_as_written_down_and_builds() {
    let store = Store::new();
    let default = store.configuration(&Path::new(HERE).join("tests/nix/cases/default.nix")).unwrap().facts();
    let cases = cases("");
    assert!(cases.len() >= 15, "{cases:?}");
    for case in cases {
        let name = case.file_stem().unwrap().to_str().unwrap();
        let made = store.configuration(&case).unwrap_or_else(|error| panic!("{name} is refused: {error}"));
        let base = if name == "default" { facts::of_install(Path::new(HERE)) } else { default.clone() };
        // `the_rights_of_a_backend_are_those_of_units` looks at that unit.
        let mut difference = facts::difference(&base, &made.facts());
        difference.retain(|fact| !fact.starts_with("+ psentry-ipset-sets.service ["));
        facts::expect(name, &difference, &case.with_extension("differs"));
        let build = made.build();
        let error = String::from_utf8_lossy(&build.stderr);
        assert!(build.status.success() && error.is_empty(), "{name} does not build: {error}");
    }
}

/// The default has no mirage, so that it says nothing of the one in units/.
#[test]
fn the_mirage_is_the_one_of_units() {
    let store = Store::new();
    let made = store.configuration(&Path::new(HERE).join("tests/nix/cases/mirage.nix")).unwrap();
    let only = |facts: facts::Facts| -> Vec<String> {
        facts.into_iter().filter(|fact| fact.starts_with("psentry-mirage.socket")).collect()
    };
    assert_eq!(only(made.facts()), only(facts::of_install(Path::new(HERE))));
}

/// What a backend may in the module is what its drop-in in units/ gives it; and its sets are made as there.
#[test]
fn the_rights_of_a_backend_are_those_of_units() {
    let store = Store::new();
    let facts = |case: &str| {
        let case = Path::new(HERE).join(format!("tests/nix/cases/{case}.nix"));
        store.configuration(&case).unwrap().facts()
    };
    let default = facts("default");
    for (case, drop_in) in [("packet-filter-of-old", "ipset"), ("a-command-with-a-network", "exec-network")] {
        let settings = ["ExecStart=", "Environment="];
        let given: facts::Facts = facts::difference(&default, &facts(case))
            .into_iter()
            .filter_map(|fact| fact.strip_prefix("+ psentry-block.service [Service] ").map(str::to_owned))
            .filter(|fact| !settings.iter().any(|setting| fact.starts_with(setting)))
            .collect();
        assert_eq!(given, facts::of_drop_in(Path::new(HERE), drop_in), "{case}");
    }
    let sets = |facts: facts::Facts| -> facts::Facts {
        facts.into_iter().filter(|fact| fact.starts_with("psentry-ipset-sets.service")).collect()
    };
    let (units, module) = (sets(facts::of_install(Path::new(HERE))), sets(facts("packet-filter-of-old")));
    // The firewall of NixOS has another name.
    let differs = "+ psentry-ipset-sets.service [Unit] Before=firewall.service".to_owned();
    assert_eq!(facts::difference(&units, &module), facts::Facts::from([differs]));
}

#[test]
fn what_cannot_work_is_refused_with_a_sentence() {
    let store = Store::new();
    let cases = cases("refused-");
    assert!(cases.len() >= 12, "{cases:?}");
    for case in cases {
        let (name, says) = (case.display(), says(&case));
        let Err(error) = store.configuration(&case) else { panic!("{name} is accepted") };
        assert!(error.contains(&says), "{name}: {error}");
        // An assertion that fails says all there is to say, and no other fails with it.
        if let Some((_, failed)) = error.split_once("Failed assertions:\n") {
            let failed: Vec<&str> =
                failed.lines().map(str::trim).filter(|line| line.starts_with("- ")).collect();
            assert_eq!(failed, [format!("- {says}")], "{name}");
        }
    }
}

#[test]
fn a_wrong_setting_fails_the_build_in_the_words_of_its_program() {
    let store = Store::new();
    let cases = cases("unbuilt-");
    assert!(cases.len() >= 5, "{cases:?}");
    for case in cases {
        let name = case.display();
        let made =
            store.configuration(&case).unwrap_or_else(|error| panic!("{name} does not evaluate: {error}"));
        let build = made.build();
        let error = String::from_utf8_lossy(&build.stderr);
        assert!(!build.status.success(), "{name} builds");
        assert!(error.contains(&says(&case)), "{name}: {error}");
    }
}

#[test]
fn systemd_understands_the_units_and_every_sandbox_is_tight() {
    let store = Store::new();
    for case in ["default", "everything", "mirage", "trap-alone", "without-blocker", "packet-filter-of-old"] {
        let made = store.configuration(&Path::new(HERE).join(format!("tests/nix/cases/{case}.nix"))).unwrap();
        let (folder, files) = made.units();
        assert!(files.len() >= 6, "{files:?}");
        let output =
            Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&files).output().unwrap();
        // It ends well even on a misspelt directive, but not in silence.
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{case}");
        assert!(output.status.success());
        let block = if case == "packet-filter-of-old" { 15 } else { 13 };
        for (unit, tenths) in [("listen", 3), ("trap", 13), ("judge", 3), ("block", block)] {
            let without = match case {
                "trap-alone" => "listen",
                _ => "",
            };
            if unit == without {
                continue;
            }
            let unit = folder.path().join(format!("psentry-{unit}.service"));
            let output = Command::new("systemd-analyze")
                .args(["security", "--offline=true", "--no-pager", &format!("--threshold={tenths}")])
                .arg(&unit)
                .output()
                .unwrap();
            let told = String::from_utf8_lossy(&output.stdout);
            assert!(
                output.status.success(),
                "{}: {}",
                unit.display(),
                told.lines().last().unwrap_or_default()
            );
            assert!(told.contains("Overall exposure level"), "{}: {told}", unit.display());
        }
    }
}

#[test]
fn the_flake_holds_what_it_should() {
    let output = Store::new().evaluate("flake.nix", &["--arg", "user", "null"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let expected = fs::read_to_string(Path::new(HERE).join("tests/nix/flake.json")).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), expected.trim_end());
}

/// The script of nix/test.nix, word by word, on containers instead of virtual machines.
#[test]
fn machines_with_the_module_do_what_the_nixos_test_asks() {
    if !Booted::possible() {
        return;
    }
    let store = Store::new();
    // Services of other users than root look into it.
    fs::set_permissions(store.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(store.path("work")).unwrap();
    let name = format!("psentry-nix-{}", std::process::id());
    // In namespaces of its own, which end with this process, whatever ends it.
    let output = Command::new("setpriv")
        .args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .args(["timeout", "--kill-after=20", "300", "python3", "-B"])
        .arg(Path::new(HERE).join("tests/nix/driver.py"))
        .arg(Path::new(HERE).join("nix/test.nix"))
        .args([store.path("psentry"), store.path("work")])
        .arg(&name)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{said}\n{error}");
    assert!(said.lines().filter(|line| line.starts_with("ok ")).count() >= 9, "{said}");
    for hierarchy in ["", "unified/", "systemd/"] {
        let left = format!("/sys/fs/cgroup/{hierarchy}{name}-guard");
        assert!(!Path::new(&left).exists(), "{left} is left behind");
    }
}
