//! A full disk behind the log costs records and nothing else: the scanner is blocked, the losses are counted, told and no
//! secret of `status`, and once there is room again records go on whole. A real tmpfs of a few pages is the disk.

use std::fs::{self, File};
use std::io::Write;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use psentry_records::Record;

use super::stream::probe;
use crate::lab::{GUARD, Lab, Program, bin, wait_until};

const DECOYS: &str = "21,23,445,3389";
const CONTROL: &str = "/run/control";

/// A disk of 64 KiB at this place of the guard, and how it is filled and emptied.
struct Disk<'a>(&'a Lab);

impl<'a> Disk<'a> {
    fn new(lab: &'a Lab) -> Self {
        lab.guard.sh("mkdir -p /run/disk; mount -t tmpfs -o size=64k tmpfs /run/disk");
        Disk(lab)
    }

    fn fill(&self) {
        self.0.guard.run(&["sh", "-c", "cat /dev/zero > /run/disk/ballast"]);
    }

    fn empty(&self) {
        self.0.guard.sh("rm /run/disk/ballast");
    }

    /// A file of it, opened by the test as a shell would do it: for appending.
    fn open(&self, name: &str) -> File {
        self.0.guard.sh(&format!("touch /run/disk/{name}"));
        File::options().append(true).open(self.path(name)).unwrap()
    }

    fn path(&self, name: &str) -> String {
        format!("/proc/{}/root/run/disk/{name}", self.0.guard.pid())
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }
}

/// Starts a stage with a file as its standard output.
fn into_file(command: &mut Command, file: File) -> Child {
    command.stdout(file).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_scanner_is_blocked_though_nothing_can_be_written() {
    let lab = Lab::new();
    let disk = Disk::new(&lab);
    let log = disk.open("log");
    disk.fill();
    let mut listen = Program::start_piped(
        lab.guard.command(bin("psentry-listen")).args(["--tcp", DECOYS]).stdin(Stdio::null()),
    );
    let mut judge =
        Program::start_piped(lab.guard.command(bin("psentry-judge")).arg("--pass").stdin(listen.stdout()));
    let line = format!(
        "exec {} --backend nft --pass --control {CONTROL} --state /run/disk/state 2> /run/errors",
        bin("psentry-block")
    );
    let mut block = into_file(lab.guard.command("sh").args(["-c", &line]).stdin(judge.stdout()), log);
    wait_until("the decoys listen", || {
        let sockets = lab.guard.read(&["ss", "-Hltn"]);
        DECOYS.split(',').all(|port| sockets.contains(&format!("*:{port} ")))
    });
    lab.scanner.touch(GUARD[0], 21);
    lab.scanner.touch(GUARD[0], 445);
    let is_blocked = || lab.guard.read(&["nft", "list", "ruleset"]).contains("203.0.113.7");
    wait_until("the scanner is blocked", is_blocked);
    assert_eq!(disk.read("log"), "");
    // Who asks is told, and a monitor sees it.
    let status = || {
        let output = lab.guard.run(&[bin("psentry-block"), "status", "--json", "--control", CONTROL]);
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        (output.status.code(), text)
    };
    let (code, text) = status();
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("\"enforced\":true") && text.contains("\"recorded\":false"), "{text}");
    assert!(
        text.contains("what happens is not recorded: standard output cannot be written: No space left"),
        "{text}"
    );
    let errors = || fs::read_to_string(format!("/proc/{}/root/run/errors", lab.guard.pid())).unwrap();
    let told = errors();
    assert_eq!(told.matches("and the work goes on").count(), 1, "once a minute: {told}");
    // With room again, records go on, each in a line of its own, and the counters say what is missing.
    disk.empty();
    lab.innocent.touch(GUARD[0], 23);
    wait_until("a probe is in the log", || disk.read("log").contains("192.0.2.8"));
    assert!(errors().contains("standard output can be written again; "), "{}", errors());
    wait_until("it remembers again", || status().0 == Some(0));
    let pid = block.id().try_into().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGUSR1).unwrap();
    let lost = || {
        let log = disk.read("log");
        let stats = log.lines().rev().find_map(|line| match Record::parse(line) {
            Ok(Record::Stats(stats)) if stats.body.stage == "block" => Some(stats.body),
            _ => None,
        });
        stats.map(|stats| stats.counter("lost"))
    };
    wait_until("its counters are in the log", || lost().is_some());
    assert!(lost().unwrap() >= 4, "two probes, a verdict and an outcome: {:?}", lost());
    let log = disk.read("log");
    assert!(log.lines().all(|line| line.is_empty() || Record::parse(line).is_ok()), "{log}");
    // Whoever reads on is an error all the same, but none of a disk.
    listen.terminate();
    assert!(block.wait().unwrap().success());
    assert!(errors().contains("lost in all, "), "{}", errors());
}

/// A line of which only a part found room is ended before the next one, by the same run or by the next.
#[test]
fn a_line_that_was_cut_off_costs_no_other() {
    let lab = Lab::new();
    for restart in [false, true] {
        let disk = Disk::new(&lab);
        let log = disk.open("log");
        let probes = |range: std::ops::Range<u32>| -> String {
            range.map(|n| probe(&format!("198.18.{}.{}", n / 250, n % 250), 23) + "\n").collect()
        };
        let start = |log: &File| {
            let mut command = lab.guard.command(bin("psentry-judge"));
            let log = log.try_clone().unwrap();
            into_file(command.args(["--pass"]).stdin(Stdio::piped()), log)
        };
        let mut judge = start(&log);
        // Some 150 bytes each, and a disk of 64 KiB.
        judge.stdin.as_mut().unwrap().write_all(probes(0..1000).as_bytes()).unwrap();
        let size = || disk.read("log").len();
        wait_until("the disk is full", || size() == 64 * 1024 || size() % 4096 == 0 && size() > 32 * 1024);
        assert!(!disk.read("log").ends_with('\n'), "no line was cut off: choose another length");
        if restart {
            drop(judge.stdin.take());
            assert!(judge.wait().unwrap().success());
            lab.guard.sh("mount -o remount,size=256k /run/disk");
            judge = start(&log);
        } else {
            wait_until("it has read all", || {
                fs::read_to_string(format!("/proc/{}/wchan", judge.id())).unwrap().contains("poll")
            });
            lab.guard.sh("mount -o remount,size=256k /run/disk");
        }
        judge.stdin.as_mut().unwrap().write_all(probes(2000..2010).as_bytes()).unwrap();
        drop(judge.stdin.take());
        let output = judge.wait_with_output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{errors}");
        let text = disk.read("log");
        let (whole, cut): (Vec<&str>, Vec<&str>) =
            text.lines().filter(|line| !line.is_empty()).partition(|line| Record::parse(line).is_ok());
        assert_eq!(cut.len(), 1, "{restart}: {cut:?}");
        let last: Vec<&&str> = whole.iter().rev().filter(|line| line.contains("198.18.8.")).collect();
        assert_eq!(last.len(), 10, "{restart}: {errors}");
        drop(log);
        lab.guard.sh("umount /run/disk");
    }
}

/// A judge whose state has no room starts, judges, and writes all of it once there is room.
#[test]
fn a_judge_starts_on_a_full_disk_and_remembers_later() {
    let lab = Lab::new();
    let disk = Disk::new(&lab);
    lab.guard.sh("mkdir /run/disk/judge");
    disk.fill();
    let mut judge = Program::start_fed(lab.guard.command(bin("psentry-judge")).args([
        "--trigger",
        "1",
        "--state",
        "/run/disk/judge",
    ]));
    let mut input = judge.stdin();
    input.write_all((probe("203.0.113.7", 23) + "\n").as_bytes()).unwrap();
    judge.record("a verdict", |record| matches!(record, Record::Verdict(_)));
    judge.complaint("--state: cannot write /run/disk/judge/state.jsonl.new: No space left");
    disk.empty();
    wait_until("it is remembered", || {
        fs::read_to_string(disk.path("judge/state.jsonl")).is_ok_and(|text| text.contains("203.0.113.7"))
    });
    drop(input);
    let (status, _, errors) = judge.end();
    assert!(status.success(), "{errors:?}");
}
