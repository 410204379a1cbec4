//! Who was released is judged anew: the judge hears it by its FIFO, and a new scan is blocked at once. In a bare pipe nobody
//! tells it, and the command says until when it is silent.

use std::process::Stdio;

use psentry_records::{Outcome, OutcomeResult, Record, Timestamp};

use crate::lab::{GUARD, Lab, Program, SCANNER, SCANNER_SCOPE, bin, wait_until};

const SERVICE: u16 = 8088;
const SCOPE: &str = SCANNER_SCOPE[0];

/// The stages as the services have them: the judge reads a FIFO, and passes on what it reads.
struct Services {
    _sensor: Program,
    judge: Program,
    block: Program,
}

impl Services {
    fn start(lab: &Lab) -> Self {
        lab.guard.sh("mkfifo -m 620 /run/psentry/events");
        let mut judge = judge_of_events(lab, "");
        let mut block = Program::start_piped(
            lab.guard
                .command(bin("psentry-block"))
                .args(["--backend", "nft", "--pass"])
                .stdin(judge.stdout()),
        );
        block.read_output();
        Services { _sensor: listen_to_events(lab), judge, block }
    }

    fn outcome(&mut self, result: OutcomeResult) -> Outcome {
        outcome(&mut self.block, result)
    }
}

/// A judge that reads the FIFO, and keeps it open.
fn judge_of_events(lab: &Lab, output: &str) -> Program {
    let script = format!("exec {} --pass <>/run/psentry/events {output}", bin("psentry-judge"));
    let mut judge = Program::start_piped(lab.guard.command("sh").args(["-c", &script]).stdin(Stdio::null()));
    judge.complaint("ready");
    judge
}

/// Decoys whose touches are written there.
fn listen_to_events(lab: &Lab) -> Program {
    let script = format!("exec {} --tcp 21,23,445 >/run/psentry/events", bin("psentry-listen"));
    let listen = Program::start_piped(lab.guard.command("sh").args(["-c", &script]).stdin(Stdio::null()));
    wait_until("the decoys listen", || lab.guard.read(&["ss", "-Hltn"]).contains("*:445 "));
    listen
}

/// The next outcome of the scanner with this result.
fn outcome(block: &mut Program, result: OutcomeResult) -> Outcome {
    let is_it = |record: &Record| matches!(record, Record::Outcome(outcome) if outcome.body.result == result && outcome.body.scope.to_string() == SCOPE);
    let Record::Outcome(outcome) = block.record(result.name(), is_it) else { panic!() };
    outcome
}

fn scan(lab: &Lab) {
    for port in [21, 23, 445] {
        lab.scanner.touch(GUARD[0], port);
    }
}

/// Runs a command of psentry-block; what it says on standard error.
fn command(lab: &Lab, line: &[&str]) -> String {
    let output = lab.guard.run(&[&[bin("psentry-block")], line, &["--json"]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{line:?}: {said}");
    said
}

#[test]
fn who_was_released_is_blocked_again_by_a_new_scan() {
    let lab = Lab::new();
    let _service = lab.service(SERVICE);
    let mut services = Services::start(&lab);
    scan(&lab);
    services.outcome(OutcomeResult::Applied);
    assert!(lab.scanner.is_shut_out(GUARD[0], SERVICE));
    // Each way to release somebody; in a panic he scans, too, and is convicted in vain.
    for released in [&[&["unblock", SCANNER[0]][..]][..], &[&["flush"]], &[&["panic"], &["resume"]]] {
        for line in released {
            let said = command(&lab, line);
            assert!(!said.contains("judge"), "{line:?}: {said}");
            if line[0] == "panic" {
                assert!(lab.scanner.reaches(GUARD[0], SERVICE));
                scan(&lab);
                scan(&lab);
            }
        }
        assert!(lab.scanner.reaches(GUARD[0], SERVICE), "{released:?}");
        scan(&lab);
        let again = services.outcome(OutcomeResult::Applied);
        assert!(lab.scanner.is_shut_out(GUARD[0], SERVICE), "{released:?}: {again:?}");
    }
    // The judge has heard it, and nothing that it has to complain about; the log says it once.
    let (status, _, errors) = services.judge.terminate();
    assert!(status.success() && !errors.iter().any(|line| line.contains("not passed on")), "{errors:?}");
    let (_, rest, _) = services.block.end();
    let everybody = services.block.said().iter().chain(&rest).filter(|line| line.contains("\"0.0.0.0/0\""));
    assert_eq!(everybody.count(), 2, "a flush and the end of a panic release everybody");
}

/// Where a psentry-block is not there to say it, the command does.
#[test]
fn the_judge_is_told_without_a_psentry_block_that_runs() {
    let lab = Lab::new();
    lab.guard.sh("mkfifo -m 620 /run/psentry/events");
    let (_judge, _sensor) = (judge_of_events(&lab, ">/run/verdicts"), listen_to_events(&lab));
    let verdicts = || lab.guard.sh("cat /run/verdicts").matches("\"verdict\":{").count();
    let scanned = |count: usize| {
        scan(&lab);
        wait_until("the judge convicts", || verdicts() == count);
    };
    scanned(1);
    for (count, line) in [(2, &["unblock", SCANNER[0]][..]), (3, &["flush"])] {
        command(&lab, &["block", SCANNER[0], "--for", "1h"]);
        command(&lab, line);
        scanned(count);
    }
    command(&lab, &["panic"]);
    command(&lab, &["resume"]);
    scanned(4);
}

#[test]
fn in_a_bare_pipe_the_command_says_until_when_the_judge_is_silent() {
    let lab = Lab::new();
    let mut listen = Program::start_piped(
        lab.guard.command(bin("psentry-listen")).args(["--tcp", "21,23,445"]).stdin(Stdio::null()),
    );
    let mut judge = Program::start_piped(lab.guard.command(bin("psentry-judge")).stdin(listen.stdout()));
    let mut block = Program::start_piped(
        lab.guard.command(bin("psentry-block")).args(["--backend", "nft"]).stdin(judge.stdout()),
    );
    block.read_output();
    wait_until("the decoys listen", || lab.guard.read(&["ss", "-Hltn"]).contains("*:445 "));
    scan(&lab);
    let until = outcome(&mut block, OutcomeResult::Applied).body.until.unwrap();
    let said = command(&lab, &["unblock", SCANNER[0]]);
    let wants = format!(
        "the judge is not told, because nothing reads /run/psentry/events: it writes no further verdict about {SCOPE} until "
    );
    let told = said.trim().split_once(&wants).and_then(|(_, until)| until.parse::<Timestamp>().ok());
    assert!(told.is_some_and(|told| told >= until && told.since(until).as_secs() <= 1), "{said}");
    // Nobody was convicted for a block by hand.
    command(&lab, &["block", SCANNER[0], "--for", "2h"]);
    assert_eq!(command(&lab, &["flush"]), "");
    command(&lab, &["panic"]);
    let said = command(&lab, &["resume"]);
    assert!(said.contains("the judge is not told"), "{said}");
}
