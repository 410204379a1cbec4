//! What every stage does alike: it ends when it is asked to, whatever its neighbours do, notices that they are gone,
//! and is not held up by a terminal.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use psentry_records::{Action, Common, OutcomeResult, Record, Timestamp, Verdict, VerdictBody, Writer};

use super::stream::probe;
use crate::lab::{Program, bin};
use crate::surface::has_its_counters;

/// The stages that read, each so that a probe makes it write.
const STAGES: [(&str, &[&str]); 4] = [
    ("psentry-judge", &["--trigger", "1"]),
    ("psentry-judge", &["--pass"]),
    ("psentry-block", &["--backend", "dry-run", "--pass"]),
    ("psentry-show", &["--tee"]),
];

fn many_probes() -> String {
    // Each of a network of its own: many of one network would be blocked as one.
    (0..3000).map(|n| probe(&format!("10.{}.{}.7", n / 250, n % 250), 23) + "\n").collect()
}

#[test]
fn an_endless_input_does_not_keep_a_stage_alive() {
    for (name, flags) in STAGES {
        let zero = File::open("/dev/zero").unwrap();
        let mut stage = Program::start_piped(Command::new(bin(name)).args(flags).stdin(zero));
        let _output = stage.stdout();
        stage.complaint("line 1 of the input skipped");
        stage.signal(Signal::SIGTERM);
        let (status, _, errors) = stage.end();
        assert!(status.success(), "{name}: {status}: {errors:?}");
    }
}

#[test]
fn a_stage_that_is_stopped_amid_a_flood_leaves_whole_lines_to_the_next() {
    let mut flood = tempfile::tempfile().unwrap();
    flood.write_all(many_probes().repeat(50).as_bytes()).unwrap();
    flood.rewind().unwrap();
    // Both read at one place of one file, as they would at one end of a pipe that never runs dry.
    let start = || {
        let input = flood.try_clone().unwrap();
        let mut show = Program::start_piped(Command::new(bin("psentry-show")).stdin(input));
        show.read_output();
        show
    };
    let mut first = start();
    first.line("first line", |_| true);
    // The second signal ends the reading of what waits.
    first.signal(Signal::SIGTERM);
    first.signal(Signal::SIGINT);
    let (status, _, errors) = first.end();
    assert!(status.success(), "{errors:?}");
    let read = (&flood).stream_position().unwrap();
    assert!(read < flood.metadata().unwrap().len(), "it read to the end, so that this showed nothing");
    let mut second = start();
    second.line("line of the next", |_| true);
    second.signal(Signal::SIGTERM);
    second.signal(Signal::SIGINT);
    assert_eq!(second.end().2, [""; 0]);
}

#[test]
fn a_reader_that_does_not_read_does_not_keep_a_stage_alive() {
    let events = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(events.path(), many_probes()).unwrap();
    for (name, flags) in STAGES {
        let input = File::open(events.path()).unwrap();
        let mut stage = Program::start_piped(Command::new(bin(name)).args(flags).stdin(input));
        let mut output = stage.stdout();
        // It has begun to write, and soon has filled the pipe.
        output.read_exact(&mut [0; 1]).unwrap();
        stage.signal(Signal::SIGTERM);
        let (status, _, errors) = stage.end();
        assert_eq!(status.code(), Some(74), "{name} {flags:?}: {errors:?}");
    }
}

#[test]
fn a_stage_notices_while_it_waits_that_its_reader_is_gone() {
    for (name, flags, code) in [
        ("psentry-judge", &[][..], 74),
        ("psentry-block", &["--backend", "dry-run"], 74),
        ("psentry-show", &["--tee"], 74),
        ("psentry-show", &[], 0), // whoever looked has seen enough
    ] {
        let mut stage = Program::start_piped(Command::new(bin(name)).args(flags).stdin(Stdio::piped()));
        let _input = stage.stdin();
        drop(stage.stdout());
        let (status, _, errors) = stage.end();
        assert_eq!(status.code(), Some(code), "{name} {flags:?}: {errors:?}");
    }
}

/// nohup, and a shell that starts a job in the background, have signals ignored; that is theirs to decide.
#[test]
fn a_signal_that_is_ignored_at_the_start_stays_ignored() {
    let script = format!("trap '' HUP INT; exec {} --trigger 1", bin("psentry-judge"));
    let mut judge = Program::start_fed(Command::new("sh").args(["-c", &script]));
    let mut input = judge.stdin();
    let verdict = |record: &Record| matches!(record, Record::Verdict(_));
    writeln!(input, "{}", probe("192.0.2.7", 23)).unwrap();
    judge.record("verdict", verdict);
    judge.signal(Signal::SIGHUP);
    judge.signal(Signal::SIGINT);
    writeln!(input, "{}", probe("192.0.2.8", 23)).unwrap();
    judge.record("verdict after the signals", verdict);
    let (status, _, errors) = judge.terminate();
    assert!(status.success(), "{errors:?}");
}

#[test]
fn a_paused_terminal_does_not_hold_up_the_guard() {
    let events = many_probes();
    // Standard error is a pipe that nobody reads.
    let (_unread, stderr) = std::io::pipe().unwrap();
    let mut show = Command::new(bin("psentry-show"))
        .arg("--tee")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .unwrap();
    let mut input = show.stdin.take().unwrap();
    let fed = events.clone();
    let feeder = std::thread::spawn(move || input.write_all(fed.as_bytes()).unwrap());
    let passed = std::io::read_to_string(show.stdout.take().unwrap()).unwrap();
    feeder.join().unwrap();
    assert!(show.wait().unwrap().success());
    assert_eq!(passed, events);
}

/// Once a minute, too, which a unit test of the timer shows.
#[test]
fn the_blocker_writes_its_counters_on_a_signal() {
    let flags = ["--backend", "dry-run", "--brake", "2/min", "--host", "gate"];
    let mut block = Program::start_fed(Command::new(bin("psentry-block")).args(flags));
    let mut input = block.stdin();
    let (block_it, release) = (Action::Block, Action::Unblock);
    let verdicts = [
        (block_it, "192.0.2.7", OutcomeResult::Applied),
        (block_it, "198.51.100.8", OutcomeResult::Applied),
        (block_it, "203.0.113.9", OutcomeResult::Refused),
        (block_it, "127.0.0.1", OutcomeResult::Refused),
        (release, "192.0.2.7", OutcomeResult::Released),
    ];
    writeln!(input, "no record").unwrap();
    for (action, scope, want) in verdicts {
        let handshake = Some(false);
        let body = VerdictBody {
            duration: Some(3600),
            handshake,
            ..VerdictBody::new(action, scope.parse().unwrap())
        };
        let verdict = Verdict { common: Common::at(Timestamp::now()), body };
        Writer::new(&mut input).write(&Record::Verdict(verdict)).unwrap();
        let Record::Outcome(outcome) = block.record("an outcome", |_| true) else { panic!("no outcome") };
        assert_eq!((outcome.body.scope.addr().to_string().as_str(), outcome.body.result), (scope, want));
    }
    block.signal(Signal::SIGUSR1);
    let Record::Stats(stats) = block.record("counters", |_| true) else { panic!("no counters") };
    assert_eq!((stats.common.host.as_deref(), &*stats.body.stage), (Some("gate"), "block"));
    has_its_counters(&stats);
    let counters: Vec<String> =
        stats.body.counters.iter().map(|(name, value)| format!("{name} {value}")).collect();
    assert_eq!(
        counters.join(", "),
        "verdicts 5, skipped 1, applied 2, already 0, refused 2, failed 0, released 1, expired 0, guarded 1, braked 1, \
         no_room 0, retries 0, repairs 0, lost 0, log_over_rate 0, log_rotations 0, log_sources_evicted 0, blocks 1, waiting 0"
    );
    // At its end there are outcomes alone.
    let (status, rest, errors) = block.terminate();
    assert!(status.success() && rest.is_empty(), "{rest:?} {errors:?}");
}
