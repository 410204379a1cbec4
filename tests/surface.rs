//! What an administrator sees of each program: help and manual page name the same flags, help fits one screen,
//! exit codes are sysexits', `--check` touches nothing, completions complete.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use psentry_records::Stats;

use crate::lab::bin;

const PROGRAMS: [&str; 5] =
    ["psentry-listen", "psentry-trap", "psentry-judge", "psentry-block", "psentry-show"];

/// The commands of psentry-block.
const COMMANDS: [&str; 8] = ["list", "unblock", "flush", "block", "status", "why", "panic", "resume"];

fn run(program: &str, flags: &[&str]) -> Output {
    Command::new(bin(program)).args(flags).stdin(Stdio::null()).output().unwrap()
}

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("man").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The long flags that a help text offers.
fn flags_of_help(help: &str) -> BTreeSet<String> {
    help.lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with('-'))
        .filter_map(|line| line.split([' ', ',', '=']).find(|word| word.starts_with("--")))
        .map(|flag| flag.trim_end_matches("...").to_owned())
        .collect()
}

/// The long flags that a manual page describes, as items of a list: `.It Fl -name` or `.It Fl h , Fl -help`.
fn flags_of_page(page: &str) -> BTreeSet<String> {
    page.lines()
        .filter(|line| line.starts_with(".It Fl"))
        .flat_map(|line| line.split_whitespace().filter(|word| word.starts_with('-')))
        .map(|word| format!("-{word}"))
        .collect()
}

/// The counters of a stage that psentry-records(5) lists, in its order: the list after "Of psentry-STAGE(8)".
fn counters_of_page(stage: &str) -> Vec<String> {
    let page = page("psentry-records.5");
    let lines = page.lines().skip_while(|line| *line != ".Ss STATS");
    let of_stage = lines.skip_while(|line| !line.starts_with(&format!(".Xr psentry-{stage} 8 "))).skip(1);
    let of_stage = of_stage.take_while(|line| *line != ".El").filter_map(|line| line.strip_prefix(".It Ql "));
    of_stage.flat_map(|names| names.split(" , ")).map(str::to_owned).collect()
}

/// That a record has the counters that psentry-records(5) promises, and no other.
pub fn has_its_counters(stats: &Stats) {
    let names: Vec<&str> = stats.body.counters.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, counters_of_page(&stats.body.stage), "{}", stats.body.stage);
}

#[test]
fn help_and_manual_name_the_same_flags() {
    for program in PROGRAMS {
        let mut help = flags_of_help(&String::from_utf8(run(program, &["--help"]).stdout).unwrap());
        if program == "psentry-block" {
            for command in COMMANDS {
                // A screen of old.
                let line = [command, "--help"];
                let output = Command::new(bin(program)).args(line).env("COLUMNS", "80").output().unwrap();
                assert!(output.status.success(), "{command}");
                let lines = output.stdout.iter().filter(|byte| **byte == b'\n').count();
                assert!(lines <= 24, "{command}: {lines} lines of help");
                help.extend(flags_of_help(&String::from_utf8(output.stdout).unwrap()));
            }
        }
        assert!(help.contains("--check") && help.contains("--completions"), "{program}: {help:?}");
        assert_eq!(help, flags_of_page(&page(&format!("{program}.8"))), "{program}: left help, right manual");
    }
}

/// What a command does not heed its help does not offer, and the completions do not either; the defaults are its own.
#[test]
fn each_command_offers_what_it_heeds() {
    let help = |command: &str| String::from_utf8(run("psentry-block", &[command, "--help"]).stdout).unwrap();
    let bash = String::from_utf8(run("psentry-block", &["--completions", "bash"]).stdout).unwrap();
    for command in COMMANDS {
        let offered = flags_of_help(&help(command));
        let heeds = |flag: &str| offered.contains(flag);
        assert!(
            ["--max-blocks", "--exec-jobs", "--brake"].into_iter().all(|flag| !heeds(flag)),
            "{offered:?}"
        );
        assert_eq!(heeds("--state"), command != "resume", "{command}");
        assert_eq!(heeds("--exec"), command == "block", "{command}");
        assert_eq!(heeds("--exec-undo"), ["unblock", "flush", "block"].contains(&command), "{command}");
        assert!(heeds("--control"), "{command}: {offered:?}");
        let part = bash.split_once(&format!("psentry__subcmd__block__subcmd__{command})")).unwrap().1;
        let words = part.split_once("opts=\"").unwrap().1.split('"').next().unwrap();
        let completed: BTreeSet<String> =
            words.split(' ').filter(|word| word.starts_with("--")).map(str::to_owned).collect();
        assert_eq!(completed, offered, "{command}: left completed, right offered");
    }
    let defaults = |command| defaults_of_help(&help(command));
    for (command, backend) in [
        ("status", "every backend in use"),
        ("unblock", "every backend that this machine has"),
        ("block", "nft"),
    ] {
        let has =
            |flag: &str, default: &str| defaults(command).contains(&(flag.to_owned(), default.to_owned()));
        assert!(has("--backend", backend), "{:?}", defaults(command));
        assert!(has("--control", "/run/psentry-block/control"), "{:?}", defaults(command));
    }
    // Whoever gives all of them the same flags may.
    assert!(run("psentry-block", &["why", "192.0.2.7", "--max-blocks", "9"]).status.code() != Some(64));
    assert_eq!(
        run("psentry-block", &["--check", "--backend", "dry-run", "--max-blocks", "0"]).status.code(),
        Some(64)
    );
}

/// The flags that a help text gives a default, with it: `[default: 1000]`, `[with --capture or --banner: 1000]`.
fn defaults_of_help(help: &str) -> Vec<(String, String)> {
    let mut items: Vec<String> = Vec::new();
    for line in help.lines().map(str::trim) {
        match items.last_mut() {
            _ if line.starts_with('-') => items.push(line.to_owned()),
            Some(item) => *item += &format!(" {line}"),
            None => {}
        }
    }
    let mut defaults = Vec::new();
    for item in items {
        let flag = item.split([' ', ',', '=']).find(|word| word.starts_with("--")).unwrap();
        for note in item.split('[').skip(1).filter_map(|rest| rest.split(']').next()) {
            match note.rsplit_once(": ") {
                Some(("possible values", _)) | None => {}
                Some((_, default)) => defaults.push((flag.to_owned(), default.to_owned())),
            }
        }
    }
    defaults
}

/// The words of a text, without punctuation, and with a blank around each.
fn words(text: &str) -> String {
    let word = |word: &str| word.trim_end_matches([',', '.', ';', ':']).to_owned();
    format!(" {} ", text.split_whitespace().map(word).collect::<Vec<_>>().join(" "))
}

/// What a manual page says of one flag.
fn item_of_page(page: &str, flag: &str) -> String {
    let head = format!(".It Fl {} ", &flag[1..]);
    let lines = page.lines().skip_while(|line| !format!("{line} ").starts_with(&head)).skip(1);
    lines
        .take_while(|line| !line.starts_with(".It") && !line.starts_with(".El"))
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn every_default_in_help_stands_in_the_manual() {
    for (program, least) in PROGRAMS.into_iter().zip([4, 7, 4, 6, 0]) {
        let help = String::from_utf8(run(program, &["--help"]).stdout).unwrap();
        let page = page(&format!("{program}.8"));
        let defaults = defaults_of_help(&help);
        assert!(defaults.len() >= least, "{program}: {defaults:?}");
        for (flag, default) in defaults {
            let item = words(&item_of_page(&page, &flag));
            // The runtime directory is not the same everywhere.
            let default = match default.strip_prefix("/run/psentry/") {
                Some(name) if item.contains("runtime directory") => name.to_owned(),
                _ => default,
            };
            let said = item.contains(&words(&default)) && item.contains(" default ");
            assert!(said, "{program}: the manual lacks the default {default} of {flag}:{item}");
        }
    }
}

#[test]
fn every_page_has_examples_and_speaks_of_security() {
    let programs = PROGRAMS.map(|program| format!("{program}.8"));
    for name in
        programs.iter().map(String::as_str).chain(["psentry.7", "psentry-records.5", "psentry-policy.5"])
    {
        for section in [".Sh EXAMPLES", ".Sh EXIT STATUS", ".Sh SECURITY"] {
            assert!(page(name).contains(section), "{name} lacks {section}");
        }
    }
}

#[test]
fn help_fits_one_screen() {
    for program in PROGRAMS {
        let output = run(program, &["--help"]);
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success());
        assert!(help.lines().count() <= 50, "{program}: {} lines", help.lines().count());
        assert!(help.lines().all(|line| line.chars().count() <= 110), "{program} is too wide");
        assert!(!help.contains('\u{1b}'), "{program}: colours are for terminals");
    }
}

#[test]
fn a_wrong_flag_is_a_usage_error() {
    for program in PROGRAMS {
        let output = run(program, &["--no-such-flag"]);
        assert_eq!(output.status.code(), Some(64), "{program}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("--no-such-flag"), "{program}");
    }
}

#[test]
fn completions_complete_the_flags() {
    for program in PROGRAMS {
        for shell in ["bash", "zsh", "fish"] {
            let output = run(program, &["--completions", shell]);
            let script = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success() && script.contains("check"), "{program} {shell}");
        }
        let script = run(program, &["--completions", "bash"]).stdout;
        let commands = ["list", "unblock", "flush", "block", "status", "why", "panic", "resume"];
        let text = String::from_utf8_lossy(&script);
        assert!(program != "psentry-block" || commands.iter().all(|command| text.contains(command)));
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), script).unwrap();
        let read = Command::new("bash").arg("-n").arg(file.path()).status().unwrap();
        assert!(read.success(), "{program}: bash cannot read its completions");
    }
}

#[test]
fn check_says_whether_the_configuration_is_sound() {
    let folder = tempfile::tempdir().unwrap();
    let (good, bad) = (folder.path().join("good"), folder.path().join("bad"));
    fs::write(&good, "192.0.2.0/24 # office").unwrap();
    fs::write(&bad, "192.0.2.0/24\noffice.example.org\n").unwrap();
    let [good, bad] = [&good, &bad].map(|path| path.to_str().unwrap());
    for (program, flags, code, says) in [
        ("psentry-judge", vec!["--check"], 0, ""),
        ("psentry-judge", vec!["--check", "--ignore", good], 0, ""),
        (
            "psentry-judge",
            vec!["--check", "--ignore", bad],
            78,
            "bad, line 2: 'office.example.org' looks like a host name",
        ),
        ("psentry-judge", vec!["--check", "--ignore", "/nonexistent"], 78, "cannot read /nonexistent"),
        ("psentry-listen", vec!["--check", "--tcp", "21,8000-8010"], 0, ""),
        ("psentry-listen", vec!["--check", "--tcp", "23", "--banner", "/nonexistent"], 78, "/nonexistent"),
        ("psentry-listen", vec!["--check"], 0, ""), // systemd may pass sockets
        ("psentry-listen", vec!["--check", "--bind", "nowhere", "--tcp", "23"], 78, "nowhere"),
        ("psentry-block", vec!["--check", "--backend", "dry-run"], 0, ""),
        ("psentry-block", vec!["--check", "--backend", "dry-run", "--allow", good], 0, ""),
        (
            "psentry-block",
            vec!["--check", "--backend", "dry-run", "--allow", bad],
            78,
            "bad, line 2: 'office.example.org' looks like a host name",
        ),
        (
            "psentry-block",
            vec!["--check", "--backend", "dry-run", "--login-ports", "ssh"],
            78,
            "--login-ports",
        ),
        ("psentry-block", vec!["--check", "--brake", "1/min", "--brake", "600"], 64, "such as 600/min"),
        ("psentry-trap", vec!["--check", "--tcp-ports", "1-1023", "--allow", good], 0, ""),
        (
            "psentry-trap",
            vec!["--check", "--allow", bad],
            78,
            "bad, line 2: 'office.example.org' looks like a host name",
        ),
        ("psentry-trap", vec!["--check", "--except", "1-65535"], 78, "no port"),
        // What psentry.conf may say, as the units put it together.
        ("psentry-trap", vec!["--check", "--mode="], 0, ""),
        ("psentry-trap", vec!["--check", "--mode=no"], 64, "MODE=block"),
        ("psentry-judge", vec!["--check", "--mode=--observe"], 0, ""),
        ("psentry-judge", vec!["--check", "--mode=block--observe"], 64, "none with OBSERVE="),
        ("psentry-show", vec!["--check"], 0, ""),
    ] {
        let output = run(program, &flags);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{program} {flags:?}: {error}");
        assert!(error.contains(says) && (code == 0) == error.is_empty(), "{program} {flags:?}: {error}");
        assert!(output.stdout.is_empty(), "{program} {flags:?}");
    }
}

#[test]
fn a_listener_without_sockets_says_what_to_do() {
    let output = run("psentry-listen", &[]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{error}");
    assert!(error.contains("--tcp"), "{error}");
}
