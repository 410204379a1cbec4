//! What an administrator sees of each program: help and manual page name the same flags, -h fits one screen,
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
        for command in commands_of_help(&String::from_utf8(run(program, &["-h"]).stdout).unwrap()) {
            let output = run(program, &[&command, "--help"]);
            help.extend(flags_of_help(&String::from_utf8(output.stdout).unwrap()));
        }
        assert!(help.contains("--check") && help.contains("--completions"), "{program}: {help:?}");
        let mut manual = flags_of_page(&page(&format!("{program}.8")));
        if program == "psentry-block" {
            manual.extend(flags_of_page(&page("psentry-block-commands.8")));
        }
        assert_eq!(help, manual, "{program}: left help, right manual");
    }
}

/// Its page has a section for each command of psentry-block, with an example and the flags that no other one has.
#[test]
fn each_command_has_a_section_with_an_example() {
    let page = page("psentry-block-commands.8");
    let own: [(&str, &[&str]); 2] = [("block", &["--for", "--reason"]), ("panic", &["--reason"])];
    for command in COMMANDS {
        let (_, section) = page.split_once(&format!("\n.Ss {command}: ")).unwrap();
        let section = section.split("\n.S").next().unwrap();
        assert!(section.contains(&format!("\n.Dl # psentry-block {command}")), "{command}: {section}");
        let flags = own.iter().find(|(of, _)| *of == command).map_or(&[][..], |(_, flags)| *flags);
        let described = flags_of_page(section);
        assert!(flags.iter().all(|flag| described.contains(*flag)), "{command}: {described:?}");
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

/// The lines of the journal have an identity each, which psentry-records(5) has.
#[test]
fn the_page_has_each_message_id() {
    let page = page("psentry-records.5");
    for file in ["tools/block/journald.rs", "tools/trap/quarantine_journal.rs", "tools/stage/journal.rs"] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        let is_id = |word: &&str| word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        let ids: Vec<&str> = text.split('"').filter(is_id).collect();
        assert!(!ids.is_empty(), "{file}");
        assert!(ids.iter().all(|id| page.contains(&format!(".It Ql {id}\n"))), "{file}: {ids:?}");
    }
}

#[test]
fn every_page_has_examples_and_speaks_of_security() {
    let programs = PROGRAMS.map(|program| format!("{program}.8"));
    for name in programs.iter().map(String::as_str).chain([
        "psentry-block-commands.8",
        "psentry.7",
        "psentry-records.5",
        "psentry-policy.5",
    ]) {
        for section in [".Sh EXAMPLES", ".Sh EXIT STATUS", ".Sh SECURITY"] {
            assert!(page(name).contains(section), "{name} lacks {section}");
        }
    }
}

/// The commands that help offers.
fn commands_of_help(help: &str) -> Vec<String> {
    let name = |line: &str| Some(line.strip_prefix("  ")?.split_once("  ")?.0.to_owned());
    let names = help.lines().filter_map(name);
    names.filter(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase())).collect()
}

/// `-h` is for a terminal of old, and `--help` has every flag, in groups where there are many.
#[test]
fn help_fits_one_screen() {
    for program in PROGRAMS.into_iter().chain(["psentry"]) {
        let help = |line: &[&str]| {
            let output = Command::new(bin(program)).args(line).env("COLUMNS", "80").output().unwrap();
            let help = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success(), "{program} {line:?}");
            assert!(help.lines().all(|line| line.chars().count() <= 80), "{program} {line:?}: {help}");
            assert!(!help.contains('\u{1b}'), "{program}: colours are for terminals");
            help
        };
        let commands = commands_of_help(&help(&["-h"]));
        let is_without = ["psentry-listen", "psentry-show"].contains(&program);
        assert!(is_without || program == "psentry-trap" || commands.len() >= 2, "{program}: {commands:?}");
        for line in commands.iter().map(|command| vec![&**command]).chain([Vec::new()]) {
            let [short, long] = ["-h", "--help"].map(|flag| help(&[&line[..], &[flag]].concat()));
            let count = short.lines().count();
            assert!(count <= 24, "{program} {line:?}: {count} lines of help:\n{short}");
            let (shown, all) = (flags_of_help(&short), flags_of_help(&long));
            assert!(shown.is_subset(&all), "{program} {line:?}: {shown:?} {all:?}");
            let is_head = |line: &&str| line.ends_with(':') && !line.starts_with(' ');
            let groups = long.lines().filter(is_head).count();
            assert!(all.len() < 15 || groups >= 3, "{program} {line:?}: one heap of flags:\n{long}");
        }
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

/// In every program, with flags before the positionals and behind them.
#[test]
fn a_bad_value_is_64_and_a_bad_file_78() {
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad");
    fs::write(&bad, "192.0.2.0/24\noffice.example.org\n").unwrap();
    let bad = bad.to_str().unwrap();
    for (program, line, code, says) in [
        ("psentry-listen", "--check --tcp http", 64, "'http' is not a port"),
        ("psentry-listen", "--check --udp 9-1", 64, "ends before it begins"),
        ("psentry-listen", "--check --tcp 23 --bind nowhere", 64, "'nowhere' is not an address"),
        ("psentry-listen", "--check --rate none", 64, "--rate"),
        ("psentry-listen", "--check --tcp 23 --banner /none", 78, "cannot read /none"),
        ("psentry-trap", "--check --tcp-ports http", 64, "'http' is not a port"),
        ("psentry-trap", "--check --except 9-1", 64, "ends before it begins"),
        ("psentry-trap", "--check --quarantine long", 64, "write a duration"),
        ("psentry-trap", "--check --allow BAD", 78, "bad, line 2"),
        ("psentry-judge", "--check --duration long", 64, "write a duration"),
        ("psentry-judge", "--check --own nowhere", 64, "'nowhere' is not an address"),
        ("psentry-judge", "explain nowhere", 64, "'nowhere'"),
        ("psentry-judge", "--check --policy BAD", 78, "bad"),
        ("psentry-judge", "--check --ignore BAD", 78, "bad, line 2"),
        ("psentry-judge", "explain --records /none --json -- 192.0.2.7", 78, "cannot read /none"),
        ("psentry-judge", "replay --json --records /none", 78, "cannot read /none"),
        ("psentry-block", "--check --login-ports ssh", 64, "'ssh' is not a port"),
        ("psentry-block", "--check --log /x", 64, "write a file, its size"),
        ("psentry-block", "--check --brake many", 64, "such as 600/min"),
        ("psentry-block", "block nowhere --for 2h", 64, "looks like a host name"),
        ("psentry-block", "block --for 2h nowhere", 64, "looks like a host name"),
        ("psentry-block", "why 192.0.2.7 --backend nftables", 64, "'nft'"),
        ("psentry-block", "--backend hosts.deny", 64, "'hosts-deny'"),
        ("psentry-block", "--backend iptable", 64, "'iptables'"),
        ("psentry-block", "unblock all", 64, "psentry-block flush"),
        ("psentry-block", "--lst", 64, "'list'"),
        ("psentry-block", "lst", 64, "'list'"),
        ("psentry-block", "--hots x", 64, "'--host'"),
        ("psentry-block", "--check --backend dry-run --allow BAD", 78, "bad, line 2"),
        ("psentry-show", "--tee /none", 64, "--tee"),
        ("psentry-show", "/none --utc", 78, "cannot read /none"),
        ("psentry-show", "--utc /none", 78, "cannot read /none"),
        ("psentry", "--lst", 64, "'list'"),
        ("psentry", "why --json nowhere", 64, "looks like a host name"),
        ("psentry", "log 192.0.2.7 --since lastweek", 64, "12h"),
        ("psentry-block", "release 192.0.2.7", 64, "'unblock'"),
        ("psentry", "replay /none", 78, "cannot read /none"),
    ] {
        let words: Vec<&str> = line.split(' ').map(|word| if word == "BAD" { bad } else { word }).collect();
        let output = run(program, &words);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{program} {line}: {error}");
        assert!(error.contains(says), "{program} {line}: {error}");
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
        ("psentry-block", vec!["--check", "--backend", "dry-run"], 0, ""),
        ("psentry-block", vec!["--check", "--backend", "dry-run", "--allow", good], 0, ""),
        (
            "psentry-block",
            vec!["--check", "--backend", "dry-run", "--allow", bad],
            78,
            "bad, line 2: 'office.example.org' looks like a host name",
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
