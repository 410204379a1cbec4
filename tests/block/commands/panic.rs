//! A panic: everybody is released at once, whatever psentry-block does meanwhile, and stays so; nobody is blocked until it is
//! over. It is one file, /var/lib/psentry/panic.

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

/// A guard whose /var/lib/psentry is on a disk that outlives it.
fn with_disk(disk: &tempfile::TempDir) -> Lab {
    let lab = Lab::new();
    lab.guard.sh(&format!("mkdir /var/lib/psentry; mount --bind {} /var/lib/psentry", disk.path().display()));
    lab
}

#[test]
fn a_panic_outlives_restarts_and_reboots_and_whom_it_released_stays_so() {
    let (state, disk) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let lab = with_disk(&disk);
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
    let lab = with_disk(&disk);
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

/// The same without a psentry-block, and without --state.
#[test]
fn a_panic_needs_no_psentry_block_and_no_state() {
    let lab = Lab::new();
    let run = |line: &[&str]| lab.guard.run(&[&[bin("psentry-block")], line, &["--json"]].concat());
    assert!(run(&["block", SCANNER[0], "--backend", "nft"]).status.success());
    assert!(run(&["panic"]).status.success());
    assert!(!lab.guard.sh("nft list ruleset").contains("psentry"));
    let (mut block, mut stdin) = start(&lab, &["--backend", "nft"]);
    say(&mut stdin, Action::Block, SCANNER[0], Some(600));
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Refused);
    assert_eq!(run(&["block", SCANNER[0]]).status.code(), Some(1));
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Refused);
    assert!(run(&["resume"]).status.success());
    // What was wanted before is forgotten: the new verdict counts alone, though none came meanwhile.
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

/// Where the file cannot be written everybody is released as well, and that it does not hold is an error.
#[test]
fn a_panic_that_cannot_be_written_still_releases_everybody() {
    let (lab, state) = (Lab::new(), tempfile::tempdir().unwrap());
    let _service = lab.service(8088);
    let (mut block, mut stdin) = asked(&lab, &state, &["--backend", "nft"]);
    say(&mut stdin, Action::Block, SCANNER[0], Some(600));
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Applied);
    lab.guard.sh("mkdir /var/lib/psentry; mount -t tmpfs -o ro tmpfs /var/lib/psentry");
    let (code, text) = told(&run(&lab, &state, &["panic"]));
    assert_eq!(code, Some(74), "{text}");
    assert!(text.contains("the panic does not hold: the next source that is convicted is blocked"), "{text}");
    assert!(text.contains("/var/lib/psentry/panic: cannot write it"), "{text}");
    // The running one releases him, too, instead of putting him back.
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Released);
    assert!(lab.scanner.reaches(GUARD[0], 8088));
    say(&mut stdin, Action::Block, SCANNER[0], Some(600));
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Applied);
    // One whose end cannot be written holds, and that is said.
    lab.guard.sh("mount -o remount,rw /var/lib/psentry");
    assert!(run(&lab, &state, &["panic"]).status.success());
    lab.guard.sh("mount -o remount,ro /var/lib/psentry");
    let (code, text) = told(&run(&lab, &state, &["resume"]));
    assert!(code == Some(74) && text.contains("the panic still holds"), "{text}");
}

/// Any file of that name is a panic, whoever made it; a FIFO holds up nobody.
#[test]
fn a_file_of_that_name_is_enough() {
    let (lab, state) = (Lab::new(), tempfile::tempdir().unwrap());
    lab.guard.sh("mkdir -p /var/lib/psentry; mkfifo /var/lib/psentry/panic");
    let (mut block, mut stdin) = asked(&lab, &state, &["--backend", "nft"]);
    block.complaint("a panic holds");
    say(&mut stdin, Action::Block, SCANNER[0], Some(600));
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Refused);
    lab.guard.sh("rm /var/lib/psentry/panic");
    say(&mut stdin, Action::Block, SCANNER[0], Some(600));
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Applied);
    lab.guard.sh("touch /var/lib/psentry/panic");
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Released);
    // Only root writes it, everybody may read it.
    assert!(run(&lab, &state, &["resume"]).status.success());
    assert!(run(&lab, &state, &["panic"]).status.success());
    assert_eq!(lab.guard.sh("stat -c '%a %u' /var/lib/psentry /var/lib/psentry/panic"), "755 0\n644 0\n");
}

/// It hangs, and holds what it may hold; everybody is released nevertheless, and once it goes on nobody is blocked again.
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
    assert!(began.elapsed() < WAIT, "{:?}", began.elapsed());
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
    assert!(lab.scanner.reaches(GUARD[0], 8088), "he was released, and is not put back");
}

/// Nor does one that hung all the while block whom it was to block before.
#[test]
fn a_verdict_from_before_a_panic_is_refused_after_it() {
    let (lab, state) = (Lab::new(), tempfile::tempdir().unwrap());
    let (mut block, mut stdin) = asked(&lab, &state, &["--backend", "nft"]);
    block.signal(Signal::SIGSTOP);
    say(&mut stdin, Action::Block, "203.0.113.8/32", Some(600));
    for command in ["panic", "resume"] {
        assert!(run(&lab, &state, &[command]).status.success(), "{command}");
    }
    block.signal(Signal::SIGCONT);
    let refused = outcome(&mut block, "203.0.113.8/32").body;
    assert_eq!(refused.result, OutcomeResult::Refused);
    assert!(refused.error.is_some_and(|why| why.contains("there was a panic after this verdict")));
    say(&mut stdin, Action::Block, "203.0.113.8/32", Some(600));
    assert_eq!(result(&mut block, "203.0.113.8/32"), OutcomeResult::Applied);
}

/// Who cannot see whether it is over does not end it.
#[test]
fn a_panic_lasts_while_its_file_cannot_be_looked_at() {
    let (lab, state) = (Lab::new(), tempfile::tempdir().unwrap());
    let (mut block, mut stdin) = asked(&lab, &state, &["--backend", "nft"]);
    assert!(run(&lab, &state, &["panic"]).status.success());
    block.signal(Signal::SIGSTOP);
    lab.guard.sh("mv /var/lib/psentry /var/lib/hidden; ln -s psentry /var/lib/psentry");
    block.signal(Signal::SIGCONT);
    say(&mut stdin, Action::Block, "203.0.113.8/32", Some(600));
    assert_eq!(result(&mut block, "203.0.113.8/32"), OutcomeResult::Refused);
    block.signal(Signal::SIGSTOP);
    lab.guard.sh("rm /var/lib/psentry; mv /var/lib/hidden /var/lib/psentry");
    block.signal(Signal::SIGCONT);
    assert!(run(&lab, &state, &["resume"]).status.success());
    say(&mut stdin, Action::Block, "203.0.113.8/32", Some(600));
    assert_eq!(result(&mut block, "203.0.113.8/32"), OutcomeResult::Applied);
    let (_, _, errors) = block.terminate();
    assert!(errors.iter().any(|line| line.contains("cannot tell whether a panic holds")), "{errors:?}");
}

/// While thousands of verdicts are being applied: whoever was `applied` before is released, and nothing that waits is applied.
#[test]
fn what_waits_is_not_applied_in_a_panic() {
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
    wait_until("nobody is blocked", || {
        let left = outcomes(&run(&lab, &state, &["list", "--backend", "nft"]));
        left.is_empty()
    });
    assert_eq!(told(&run(&lab, &state, &["resume"])).0, Some(0));
    say(&mut stdin, Action::Block, "203.0.113.7/32", Some(600));
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Applied);
    assert_eq!(outcomes(&run(&lab, &state, &["list", "--backend", "nft"])).len(), 1);
}
