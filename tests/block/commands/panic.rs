//! A panic: everybody is in at once, whatever psentry-block does meanwhile, and stays in; nobody is blocked until it is
//! over.

use std::fs::File;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use super::*;
use crate::lab::blocker::block_many;

const BACKENDS: [&str; 5] = ["nft", "ipset", "iptables", "route", "hosts-deny"];

fn all() -> Vec<&'static str> {
    let names = BACKENDS.iter().flat_map(|name| ["--backend", name]);
    names.chain(["--hosts-deny", "/run/hosts.deny"]).collect()
}

/// Waits until each backend has said so of a scope.
fn each(block: &mut Program, scope: &str, wanted: OutcomeResult) {
    for _ in BACKENDS {
        assert_eq!(result(block, scope), wanted);
    }
}

#[test]
fn a_panic_outlives_restarts_and_reboots_and_whom_it_let_in_stays_in() {
    let state = tempfile::tempdir().unwrap();
    let lab = Lab::new();
    let _service = lab.service(8088);
    let (mut block, mut stdin) = asked(&lab, &state, &all());
    for scope in ["203.0.113.7/32", "203.0.113.8/32"] {
        say(&mut stdin, Action::Block, scope, Some(600));
        each(&mut block, scope, OutcomeResult::Applied);
    }
    assert!(lab.scanner.is_shut_out(GUARD[0], 8088));
    let reason = ["panic", "--reason", "the office is out", "--hosts-deny", "/run/hosts.deny"];
    let (code, text) = told(&run(&lab, &state, &reason));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("nobody is blocked until"), "{text}");
    assert!(lab.scanner.reaches(GUARD[0], 8088));
    assert!(!lab.guard.sh("nft list ruleset").contains("203.0.113"));
    // No verdict gets through, and none by hand.
    say(&mut stdin, Action::Block, "203.0.113.9/32", Some(600));
    let refused = outcome(&mut block, "203.0.113.9/32").body;
    assert_eq!((refused.result, refused.backend), (OutcomeResult::Refused, None));
    assert!(refused.error.is_some_and(|why| why.contains("the office is out") && why.contains("resume")));
    let (code, text) = told(&run(&lab, &state, &["block", "203.0.113.9"]));
    assert!(code == Some(1) && text.contains("panic"), "{text}");
    let (code, text) = told(&run(&lab, &state, &["status"]));
    assert!(code == Some(1) && text.contains("\"panic\":{") && text.contains("\"wanted\":0"), "{text}");
    // Nor after a kill, nor after a reboot.
    block.signal(Signal::SIGKILL);
    block.end();
    let (mut block, mut stdin) = asked(&lab, &state, &all());
    block.complaint("a panic holds");
    say(&mut stdin, Action::Block, "203.0.113.9/32", Some(600));
    assert_eq!(result(&mut block, "203.0.113.9/32"), OutcomeResult::Refused);
    drop(block.terminate());
    drop(lab);
    let lab = Lab::new();
    let (mut block, mut stdin) = asked(&lab, &state, &["--backend", "nft"]);
    block.complaint("a panic holds");
    say(&mut stdin, Action::Block, "203.0.113.9/32", Some(600));
    assert_eq!(result(&mut block, "203.0.113.9/32"), OutcomeResult::Refused);
    assert!(run(&lab, &state, &["resume"]).status.success());
    say(&mut stdin, Action::Block, "203.0.113.9/32", Some(600));
    assert_eq!(result(&mut block, "203.0.113.9/32"), OutcomeResult::Applied);
    let ruleset = lab.guard.sh("nft list ruleset");
    assert!(!ruleset.contains("203.0.113.7") && !ruleset.contains("203.0.113.8"), "{ruleset}");
    let (code, text) = told(&run(&lab, &state, &["resume"]));
    assert!(code == Some(0) && text.contains("nothing to resume"), "{text}");
}

/// The same without a psentry-block, and without a memory: then the runtime directory keeps it.
#[test]
fn a_panic_needs_no_psentry_block_and_no_memory() {
    let lab = Lab::new();
    let run = |line: &[&str]| lab.guard.run(&[&[bin("psentry-block")], line].concat());
    assert!(run(&["block", SCANNER[0], "--backend", "nft"]).status.success());
    assert!(run(&["panic"]).status.success());
    assert!(!lab.guard.sh("nft list ruleset").contains("psentry"));
    let (mut block, mut stdin) = start(&lab, &["--backend", "nft"]);
    say(&mut stdin, Action::Block, SCANNER[0], Some(600));
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Refused);
    assert_eq!(run(&["block", SCANNER[0], "--backend", "nft"]).status.code(), Some(1));
    assert!(run(&["resume"]).status.success());
    // What was wanted before is not believed to stand: the new verdict counts alone, though none came meanwhile.
    for _ in 0..2 {
        say(&mut stdin, Action::Block, SCANNER[0], None);
        assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Applied);
        assert!(run(&["panic"]).status.success());
        assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Released);
        assert!(run(&["resume"]).status.success());
        say(&mut stdin, Action::Block, SCANNER[0], Some(60));
        let applied = outcome(&mut block, "203.0.113.7/32").body;
        assert_eq!((applied.result, applied.until.is_some()), (OutcomeResult::Applied, true));
    }
}

/// Where nothing can be written into the memory everybody is let in as well, and what there is of a panic ends.
#[test]
fn a_panic_goes_without_a_memory_that_can_be_written_to() {
    let (lab, state) = (Lab::new(), tempfile::tempdir().unwrap());
    let path = state.path().display();
    let (mut block, mut stdin) = asked(&lab, &state, &["--backend", "nft"]);
    say(&mut stdin, Action::Block, SCANNER[0], Some(600));
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Applied);
    lab.guard.sh(&format!("mount --bind {path} {path}; mount -o remount,bind,ro {path}"));
    let (code, text) = told(&run(&lab, &state, &["panic"]));
    assert_eq!(code, Some(74), "{text}");
    assert!(text.contains("nobody stands blocked any more, nor is until 'psentry-block resume'"), "{text}");
    // Whoever runs has it open, and forgets.
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Released);
    say(&mut stdin, Action::Block, SCANNER[0], Some(600));
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Refused);
    let (code, text) = told(&run(&lab, &state, &["resume"]));
    assert_eq!(code, Some(0), "{text}");
    say(&mut stdin, Action::Block, SCANNER[0], Some(600));
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Applied);
    // An order that cannot be taken away holds, and that is said.
    lab.guard.sh(&format!("mount -o remount,bind,rw {path}"));
    assert!(run(&lab, &state, &["panic"]).status.success());
    lab.guard.sh(&format!("mount -o remount,bind,ro {path}"));
    let (code, text) = told(&run(&lab, &state, &["resume"]));
    assert!(code == Some(74) && text.contains("the panic still holds"), "{text}");
}

/// It hangs, and holds what it may hold; everybody is in nevertheless, and once it goes on nobody is shut out again.
#[test]
fn a_blocker_that_hangs_does_not_hold_up_a_panic() {
    let (lab, state) = (Lab::new(), tempfile::tempdir().unwrap());
    let _service = lab.service(8088);
    let (mut block, mut stdin) = asked(&lab, &state, &all());
    say(&mut stdin, Action::Block, "203.0.113.7/32", Some(600));
    each(&mut block, "203.0.113.7/32", OutcomeResult::Applied);
    block.signal(Signal::SIGSTOP);
    // This one waits in the pipe.
    say(&mut stdin, Action::Block, "203.0.113.8/32", Some(600));
    let lock = |path: &Path| {
        Flock::lock(File::open(path).unwrap(), FlockArg::LockExclusive).map_err(|(_, why)| why).unwrap()
    };
    let held = lock(state.path());
    let began = Instant::now();
    let (code, text) = told(&run(&lab, &state, &["panic", "--hosts-deny", "/run/hosts.deny"]));
    println!("{:.1?} beside one that hangs", began.elapsed());
    assert_eq!(code, Some(0), "{text}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(lab.scanner.reaches(GUARD[0], 8088));
    drop(held);
    block.signal(Signal::SIGCONT);
    assert_eq!(result(&mut block, "203.0.113.8/32"), OutcomeResult::Refused);
    assert!(run(&lab, &state, &["resume"]).status.success());
    // By the time that this one is answered, whatever waited is done.
    say(&mut stdin, Action::Block, "203.0.113.9/32", Some(600));
    each(&mut block, "203.0.113.9/32", OutcomeResult::Applied);
    assert!(lab.scanner.reaches(GUARD[0], 8088));
    block.signal(Signal::SIGKILL);
    block.end();
    let (mut block, mut stdin) = asked(&lab, &state, &all());
    say(&mut stdin, Action::Block, "203.0.113.10/32", Some(600));
    each(&mut block, "203.0.113.10/32", OutcomeResult::Applied);
    assert!(lab.scanner.reaches(GUARD[0], 8088), "it was let in, and is not put back");
}

/// While thousands of verdicts are being applied: whoever was told `applied` before is let in, and no batch that waits
/// slips in.
#[test]
fn what_waits_does_not_slip_in() {
    let (lab, state) = (Lab::new(), tempfile::tempdir().unwrap());
    let (mut block, stdin) = asked(&lab, &state, &["--backend", "nft"]);
    let stdin = block_many(&mut block, stdin, 500);
    let feeder = std::thread::spawn(move || {
        let mut stdin = stdin;
        for n in 0..10_000 {
            say(&mut stdin, Action::Block, &format!("198.19.{}.{}", n / 250, n % 250), Some(600));
        }
        stdin
    });
    let applied = |record: &Record| {
        matches!(record, Record::Outcome(o) if o.body.scope.to_string().starts_with("198.19.")
            && o.body.result == OutcomeResult::Applied)
    };
    block.record("applied", applied);
    assert!(run(&lab, &state, &["panic"]).status.success());
    let mut stdin = feeder.join().unwrap();
    say(&mut stdin, Action::Block, "203.0.113.7/32", Some(600));
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Refused);
    wait_until("nobody is shut out", || {
        let left = outcomes(&run(&lab, &state, &["list", "--backend", "nft"]));
        left.is_empty()
    });
    assert_eq!(told(&run(&lab, &state, &["resume"])).0, Some(0));
    say(&mut stdin, Action::Block, "203.0.113.7/32", Some(600));
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Applied);
    assert_eq!(outcomes(&run(&lab, &state, &["list", "--backend", "nft"])).len(), 1);
    // A command that failed while it was asked leaves no order behind.
    assert!(!state.path().join("panic").exists());
}
