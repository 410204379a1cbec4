//! What pages show of the NixOS module and what its options say of themselves: each example is evaluated, and those that are
//! whole configurations are built, too. Not what the options do, which the cases say.

use std::fs;
use std::path::Path;

use super::HERE;
use super::made::{Store, jq};

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(HERE).join(file)).unwrap()
}

/// The lines of the one block that begins with `first`, up to `last`, both left out.
fn block<'a>(text: &'a str, first: &str, last: &str) -> Vec<&'a str> {
    let mut lines = text.lines().skip_while(|line| *line != first).skip(1);
    let found: Vec<&str> = lines.by_ref().take_while(|line| *line != last).collect();
    assert!(!found.is_empty() && !lines.any(|line| line == first), "one block begins with {first:?}");
    found
}

/// The flake of a machine in README.md, which takes psentry's as its input.
#[test]
fn the_flake_of_the_readme_makes_a_machine() {
    let store = Store::new();
    let readme = read("README.md");
    let shown = block(&readme, "```nix", "```").join("\n");
    assert!(shown.contains("follows"), "{shown}");
    fs::write(store.path("flake.nix"), shown).unwrap();
    fs::write(store.path("configuration.nix"), "{ system.stateVersion = \"26.11\"; }").unwrap();
    let user = store.path("flake.nix");
    let output = store.evaluate("flake.nix", &["--arg", "user", user.to_str().unwrap()]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    assert_eq!(jq(&output.stdout, ".HOST.warnings[]"), "");
    assert!(jq(&output.stdout, ".HOST.units[\"psentry-tcp@23.socket\"]").contains("ListenStream=%i"));
}

/// The configuration in psentry(7), which the programs accept.
#[test]
fn the_configuration_of_the_manual_builds() {
    let store = Store::new();
    let page = read("man/psentry.7");
    let (_, about) = page.split_once("On NixOS the module of").unwrap();
    let (shown, _) = about.split_once("\n.Ed").unwrap();
    let (_, shown) = shown.split_once(".Bd -literal -offset indent\n").unwrap();
    let case = store.path("case.nix");
    fs::write(&case, format!("{{\n{shown}\n}}\n")).unwrap();
    let made = store.configuration(&case).unwrap();
    let build = made.build();
    assert!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
    let warned = made.facts().into_iter().find(|fact| fact.starts_with("warnings: "));
    assert_eq!(warned, None);
}

#[test]
fn every_option_is_described_and_its_example_is_of_its_type() {
    let store = Store::new();
    let lib = std::env::var("NIXPKGS_LIB").unwrap_or_default();
    // An example that is an expression is read from a file of the store.
    let arguments = ["--read-write-mode", "--arg", "documented", "true", "--argstr", "prefix", "/nix/store"];
    let output = store.evaluate("eval.nix", &[&arguments[..], &["--argstr", "nixpkgsLib", &lib]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found = |filter: &str| jq(&output.stdout, filter);
    assert_eq!(found(".withoutDescription[]"), "");
    assert_eq!(found(".withoutDefault[]"), "");
    assert_eq!(found(".exampleOfTheStore[]"), "");
    assert!(found(".options[]").lines().count() >= 30);
    assert!(found(".examples | keys[]").lines().count() >= 20);
    assert_eq!(found(".examples.tcpPorts | tostring").trim(), "[23,2222,3389]");
}

/// The module knows the families of units/etc/ports without reading it, so that it can be a part of nixpkgs.
#[test]
fn the_families_of_the_module_are_those_that_are_compiled_in() {
    let families = |text: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.split('#').next()).map(str::trim);
        lines.filter(|line| line.starts_with("family ")).map(str::to_owned).collect()
    };
    let of_module = families(&read("nix/families.nix"));
    assert_eq!(of_module, families(&read("units/etc/ports")));
    assert!(of_module.len() > 5);
}

/// Whatever the code and the unit tests of a tool read outside its folder, the source of the package has.
#[test]
fn the_package_has_the_files_that_the_tools_read() {
    let package = read("nix/package.nix");
    let sources: Vec<&str> = package.lines().filter_map(|line| line.trim().strip_prefix("../")).collect();
    let mut folders = vec![Path::new(HERE).join("tools")];
    let mut read_by_tools = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let named = text.split("../../").skip(1).filter_map(|rest| rest.split_once('"'));
                read_by_tools.extend(named.map(|(file, _)| file.trim_start_matches("../").to_owned()));
            }
        }
    }
    assert!(read_by_tools.len() >= 6, "{read_by_tools:?}");
    for file in read_by_tools {
        let there = sources.iter().any(|source| Path::new(&file).starts_with(source));
        assert!(there, "{file} is read, and nix/package.nix does not name it");
    }
}

/// A test that a build leaves out by its name is one that is there.
#[test]
fn the_tests_that_the_package_skips_exist() {
    let package = read("nix/package.nix");
    let skipped = package.lines().filter_map(|line| line.trim().strip_prefix('"')?.strip_suffix('"'));
    let skipped: Vec<&str> = skipped.filter(|word| word.contains("::tests::")).collect();
    assert_eq!(skipped.len(), 3);
    for test in skipped {
        let (module, name) = test.split_once("::tests::").unwrap();
        let mut files = ["linux", "log"].iter().map(|tool| format!("tools/{tool}/{module}.rs"));
        let file = files.find(|file| Path::new(HERE).join(file).exists()).unwrap();
        assert!(read(&file).contains(&format!("fn {name}()")), "{file} has no test {name}");
    }
}

/// What is in nix/ reads nothing outside it but what is there for the package and for the test.
#[test]
fn the_module_reads_no_file_outside_its_folder() {
    let mut read_files = 0;
    for entry in fs::read_dir(Path::new(HERE).join("nix")).unwrap() {
        let file = entry.unwrap().path();
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        if name == "package.nix" || !name.ends_with(".nix") {
            continue;
        }
        read_files += 1;
        let text = fs::read_to_string(&file).unwrap();
        let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
        assert!(!code.iter().any(|line| line.contains("../")), "{name} reads a file outside nix/");
        // Who is beside psentry has the last word on what is its own.
        let forced = code.iter().any(|line| line.contains("mkForce"));
        assert!(!forced || name == "test.nix", "{name} overrides somebody else's definition");
    }
    assert!(read_files >= 12);
}
