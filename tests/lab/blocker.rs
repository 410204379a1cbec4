//! psentry-block on a host of the lab: verdicts into it, outcomes out of it.

use std::collections::BTreeSet;
use std::process::ChildStdin;

use psentry_records::{
    Action, Common, Outcome, OutcomeResult, Record, Timestamp, Verdict, VerdictBody, Writer,
};

use super::{Lab, Program, bin};

/// Writes a verdict of now.
pub fn say(stdin: &mut ChildStdin, action: Action, scope: &str, duration: Option<u64>) {
    say_at(stdin, Timestamp::now(), action, scope, duration);
}

/// Writes a verdict of another time.
pub fn say_at(stdin: &mut ChildStdin, when: Timestamp, action: Action, scope: &str, duration: Option<u64>) {
    let body = VerdictBody { duration, ..VerdictBody::new(action, scope.parse().unwrap()) };
    Writer::new(stdin).write(&Record::Verdict(Verdict { common: Common::at(when), body })).unwrap();
}

/// Writes a verdict of now that no handshake proves.
pub fn say_unproven(stdin: &mut ChildStdin, scope: &str, duration: u64) {
    let body = VerdictBody {
        duration: Some(duration),
        handshake: Some(false),
        ..VerdictBody::new(Action::Block, scope.parse().unwrap())
    };
    let common = Common::at(Timestamp::now());
    Writer::new(stdin).write(&Record::Verdict(Verdict { common, body })).unwrap();
}

/// A blocker on the guard, and its input.
pub fn start(lab: &Lab, flags: &[&str]) -> (Program, ChildStdin) {
    let mut block = Program::start_fed(lab.guard.command(bin("psentry-block")).args(flags));
    let stdin = block.stdin();
    (block, stdin)
}

/// Waits for the next outcome for `scope`.
pub fn outcome(block: &mut Program, scope: &str) -> Outcome {
    let is_it = |record: &Record| matches!(record, Record::Outcome(o) if o.body.scope.to_string() == scope);
    let Record::Outcome(outcome) = block.record(&format!("outcome for {scope}"), is_it) else { panic!() };
    outcome
}

/// What came of the next verdict for `scope`.
pub fn result(block: &mut Program, scope: &str) -> OutcomeResult {
    outcome(block, scope).body.result
}

/// Blocks so many hosts, from 198.18.0.0 on, and waits until all are applied.
pub fn block_many(program: &mut Program, mut stdin: ChildStdin, count: u32) -> ChildStdin {
    let feeder = std::thread::spawn(move || {
        for n in 0..count {
            say(&mut stdin, Action::Block, &format!("198.18.{}.{}", n / 250, n % 250), Some(600));
        }
        stdin
    });
    let applied = |r: &Record| matches!(r, Record::Outcome(o) if o.body.result == OutcomeResult::Applied);
    for _ in 0..count {
        program.record("applied", applied);
    }
    feeder.join().unwrap()
}

/// Whom a backend blocks, read by a process that asks no psentry-block which runs.
pub fn there(lab: &Lab, backend: &str) -> BTreeSet<String> {
    let words = [
        "list",
        "--json",
        "--control",
        "/run/nobody",
        "--backend",
        backend,
        "--hosts-deny",
        "/run/hosts.deny",
    ];
    let list = lab.guard.read(&[&[bin("psentry-block")][..], &words].concat());
    let scope = |line: &str| match Record::parse(line) {
        Ok(Record::Outcome(outcome)) => outcome.body.scope.to_string(),
        _ => panic!("no outcome: {line}"),
    };
    list.lines().map(scope).collect()
}
