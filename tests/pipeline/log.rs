//! The log that psentry-block writes itself: bounded in a flood, with what matters in it; whole after a kill; and a full disk
//! stops no block.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use psentry_records::{Action, OutcomeResult, Record};

use super::stream::probe;
use crate::lab::{Lab, Program, bin, wait_until};

/// Far below what the tests write.
const SIZE: u64 = 256 << 10;
const FILES: u32 = 4;

fn flag(path: &Path) -> String {
    format!("{},256K,{FILES}", path.display())
}

/// The files of a log that are there, the oldest first.
fn files(path: &Path) -> Vec<PathBuf> {
    let rotated = (1..FILES + 10).rev().map(|times| PathBuf::from(format!("{}.{times}", path.display())));
    rotated.chain([path.to_owned()]).filter(|file| file.exists()).collect()
}

/// What is in all of them, whose sizes are within the bound.
fn records(path: &Path) -> Vec<Record> {
    let files = files(path);
    assert!(files.len() <= usize::try_from(FILES).unwrap(), "{files:?}");
    let text = |file: &PathBuf| {
        assert!(fs::metadata(file).unwrap().len() <= SIZE, "{}", file.display());
        fs::read_to_string(file).unwrap()
    };
    let text: String = files.iter().map(text).collect();
    text.lines().map(|line| Record::parse(line).unwrap_or_else(|why| panic!("{line:?}: {why}"))).collect()
}

/// A forged packet: each of another source.
fn forged(number: u32) -> String {
    let source = std::net::Ipv4Addr::from_bits(std::net::Ipv4Addr::new(198, 18, 0, 0).to_bits() + number);
    probe(&source.to_string(), 23).replace("\"handshake\":true", "\"handshake\":false")
}

/// What comes is eight times what the log holds, and twenty times what its rate admits in an hour: an hour of a flood in some
/// seconds.
#[test]
fn a_flood_stays_within_the_bound_and_a_scan_within_it_is_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.jsonl");
    let mut judge = Program::start_piped(
        Command::new(bin("psentry-judge")).args(["--pass", "--trigger", "2"]).stdin(Stdio::piped()),
    );
    let mut input = judge.stdin();
    let mut block = Program::start_piped(
        Command::new(bin("psentry-block"))
            .args(["--backend", "dry-run", "--pass", "--log", &flag(&path)])
            .stdin(judge.stdout()),
    );
    block.read_output();
    for number in 0..30_000 {
        writeln!(input, "{}", forged(number)).unwrap();
        // One source, again and again.
        if number % 2 == 0 {
            writeln!(input, "{}", probe("203.0.113.9", 161)).unwrap();
        }
        if number == 10_000 {
            for port in [21, 445] {
                writeln!(input, "{}", probe("203.0.113.7", port)).unwrap();
            }
        }
    }
    drop(input);
    assert!(judge.end().0.success());
    let (status, said, errors) = block.end();
    assert!(status.success() && said.is_empty(), "{status} {said:?} {errors:?}");
    assert!(errors.iter().any(|line| line.contains("records were left out of the log")), "{errors:?}");

    let records = records(&path);
    let is_of = |record: &Record| match record {
        Record::Probe(probe) => probe.common.src_ip == Some("203.0.113.7".parse().unwrap()),
        Record::Verdict(verdict) => {
            verdict.body.action == Action::Block && verdict.body.scope.to_string() == "203.0.113.7/32"
        }
        Record::Outcome(outcome) => {
            outcome.body.result == OutcomeResult::Applied
                && outcome.body.scope.to_string() == "203.0.113.7/32"
        }
        _ => false,
    };
    let scan: Vec<&Record> = records.iter().filter(|record| is_of(record)).collect();
    assert!(matches!(scan[..], [Record::Probe(_), .., Record::Verdict(_), Record::Outcome(_)]), "{scan:?}");
    // Nor is the beginning of the flood rotated away: the rate holds for all of it.
    assert_eq!(files(&path).len(), 1);
}

/// Nothing is left out, so the files are rotated as fast as they are written, and a kill hits a rotation now and then.
#[test]
fn killed_at_any_time_it_leaves_whole_files_and_loses_no_line_but_the_one_in_hand() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.jsonl");
    let log = format!("{},64K,1000", path.display());
    let mut written = 0;
    let mut cut = 0;
    for _ in 0..10 {
        let mut block = Program::start_fed(Command::new(bin("psentry-block")).args([
            "--backend",
            "dry-run",
            "--pass",
            "--log",
            &log,
            "--log-rate",
            "none",
        ]));
        let mut input = block.stdin();
        let began = files_of(&path).len();
        for _ in 0..5000 {
            written += 1;
            // The number is in the port's place of a record that no stage knows.
            let line =
                format!(r#"{{"timestamp":"2026-11-22T15:04:05Z","event_type":"test","number":{written}}}"#);
            writeln!(input, "{line}").unwrap();
        }
        wait_until("it has rotated", || files_of(&path).len() > began + 1);
        block.signal(Signal::SIGKILL);
        block.end();
        // What it had not read is gone with its pipe; what it wrote is there, from the first number on.
        let text: String = files_of(&path).iter().map(|file| fs::read_to_string(file).unwrap()).collect();
        cut += u32::from(!text.ends_with('\n'));
        let numbers: Vec<u32> = text.lines().filter_map(number).collect();
        let last = *numbers.last().unwrap();
        assert!(numbers.iter().all(|number| *number <= written) && numbers.is_sorted());
        let this_time: Vec<u32> = numbers.into_iter().filter(|number| *number > written - 5000).collect();
        let all: Vec<u32> = (written - 4999..=last).collect();
        assert_eq!(this_time, all, "a gap");
    }
    println!("{cut} of 10 kills cut a line");
}

fn files_of(path: &Path) -> Vec<PathBuf> {
    let rotated = (1..1000).map(|times| PathBuf::from(format!("{}.{times}", path.display())));
    let rotated: Vec<PathBuf> = rotated.take_while(|file| file.exists()).collect();
    rotated.into_iter().rev().chain([path.to_owned()]).filter(|file| file.exists()).collect()
}

fn number(line: &str) -> Option<u32> {
    line.split_once("\"number\":")?.1.strip_suffix('}')?.parse().ok()
}

#[test]
fn a_full_disk_costs_the_oldest_file_and_records_and_no_block() {
    let lab = Lab::new();
    lab.guard.sh("mkdir /run/full; mount -t tmpfs -o size=512k tmpfs /run/full; echo old > /run/full/log.2; head -c 60k /dev/zero > /run/full/log.1");
    let mut block = Program::start_fed(lab.guard.command(bin("psentry-block")).args([
        "--pass",
        "--log",
        "/run/full/log,64K,4",
        "--log-rate",
        "none",
    ]));
    let mut input = block.stdin();
    let mut say = |count: u32, first: u32| {
        for number in first..first + count {
            writeln!(input, "{}", verdict(number)).unwrap();
        }
    };
    let stands = |number: u32| {
        let wanted = source(number);
        wait_until("it is blocked", || {
            lab.guard.sh("nft list table inet psentry 2>/dev/null || true").contains(&wanted)
        });
    };
    say(1, 0);
    stands(0);
    lab.guard.sh("head -c 1M /dev/zero > /run/full/ballast || true");
    say(100, 1);
    stands(100);
    let said = block.complaint("No space left");
    assert!(said.contains("the log /run/full/log cannot be written"), "{said}");
    assert!(!lab.guard.sh("ls /run/full").contains("log.2"), "the oldest file went");
    lab.guard.sh("rm /run/full/ballast");
    say(20, 101);
    stands(120);
    block.complaint("the log /run/full/log can be written again");
    block.signal(Signal::SIGTERM);
    let (status, _, errors) = block.end();
    assert!(status.success(), "{status}");
    assert!(errors.iter().any(|line| line.contains("lost in all")), "{errors:?}");
    // What was cut off is ended before the next line.
    let log = lab.guard.sh("cat /run/full/log");
    let broken = log.lines().filter(|line| Record::parse(line).is_err()).count();
    assert!(broken <= 2 && log.ends_with('\n'), "{broken} broken lines");
    assert!(log.contains(&source(120)) && log.contains(r#""result":"applied""#), "{log}");
}

fn source(number: u32) -> String {
    format!("198.18.{}.{}", number / 250, number % 250 + 1)
}

fn verdict(number: u32) -> String {
    let now = psentry_records::Timestamp::now();
    format!(
        r#"{{"timestamp":"{now}","event_type":"verdict","verdict":{{"action":"block","scope":"{}","duration":600,"handshake":true}}}}"#,
        source(number)
    )
}

#[test]
fn a_log_that_may_not_be_written_is_an_error_and_a_second_writer_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let start = |log: &str| {
        Program::start_fed(Command::new(bin("psentry-block")).args(["--backend", "dry-run", "--log", log]))
    };
    let mut first = Program::start_piped(
        Command::new(bin("psentry-block"))
            .args(["--backend", "dry-run", "--log", &flag(&path)])
            .stdin(Stdio::piped()),
    );
    // Nobody reads its standard output, and that is no reason to end.
    let _input = first.stdin();
    drop(first.stdout());
    wait_until("the first one has it", || path.exists());
    for (log, says) in [
        (flag(&path), "another psentry-block writes it"),
        ("/dev/null,64K,2".to_owned(), "it is no regular file"),
    ] {
        let (status, _, errors) = start(&log).end();
        assert_eq!(status.code(), Some(74), "{errors:?}");
        assert!(
            errors.iter().any(|line| line.contains("cannot write the log") && line.contains(says)),
            "{errors:?}"
        );
    }
    // A folder that is missing may come, and stops no blocking.
    let (status, _, errors) = start(&flag(&folder.path().join("none/log"))).end();
    let says = "No such file or directory (os error 2); 0 records were lost, and the work goes on";
    assert!(status.success() && errors.iter().any(|line| line.contains(says)), "{errors:?}");
    first.signal(Signal::SIGUSR1);
    wait_until("it goes on", || fs::read_to_string(&path).is_ok_and(|text| text.contains("\"stats\"")));
    assert!(first.terminate().0.success());
}
