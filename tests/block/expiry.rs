//! How blocks end, and how psentry-block does: on time, whoever stalls, kills or leaves.

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::Signal;
use psentry_records::{Action, Common, OutcomeResult, Record, Timestamp, Verdict, VerdictBody, Writer};

use crate::lab::blocker::{outcome, result, say, start};
use crate::lab::{Lab, Program, bin, wait_until};

/// A reader of outcomes that stalls is not waited for once somebody asks to stop.
#[test]
fn a_reader_that_stalls_does_not_keep_it_from_stopping() {
    let lab = Lab::new();
    // Opened for reading, too, so that the pipe has a reader, which never reads.
    lab.guard.sh("mkfifo /run/outcomes");
    let line = format!("exec {} --backend dry-run 1<>/run/outcomes", bin("psentry-block"));
    let mut block = Program::start_fed(lab.guard.command("sh").args(["-c", &line]));
    let mut stdin = block.stdin();
    let feeder = std::thread::spawn(move || {
        let body = VerdictBody::new(Action::Block, "127.0.0.1".parse().unwrap());
        let verdict = Record::Verdict(Verdict { common: Common::at(Timestamp::now()), body });
        let mut writer = Writer::new(&mut stdin);
        // Those that do not fit are lost with the pipe.
        for _ in 0..3000 {
            if writer.write(&verdict).is_err() {
                break;
            }
        }
    });
    std::thread::sleep(Duration::from_secs(1));
    block.signal(Signal::SIGTERM);
    let (status, _, errors) = block.end();
    assert_eq!(status.code(), Some(74), "{errors:?}");
    feeder.join().unwrap();
}

/// What became an address of this machine since the last run is released.
#[test]
fn what_became_an_own_address_is_released_at_the_start() {
    let lab = Lab::new();
    let (mut block, mut stdin) = start(&lab, &["--backend", "nft"]);
    say(&mut stdin, Action::Block, "203.0.113.77", None);
    assert_eq!(result(&mut block, "203.0.113.77/32"), OutcomeResult::Applied);
    block.terminate();
    lab.guard.sh("ip address add 203.0.113.77/32 dev lo");
    let (mut block, _stdin) = start(&lab, &["--backend", "nft"]);
    assert_eq!(result(&mut block, "203.0.113.77/32"), OutcomeResult::Refused);
    wait_until("it is deleted", || !lab.guard.sh("nft list ruleset").contains("203.0.113.77"));
}

/// After kill -9, blocks whose end only psentry-block knows do not stay for ever: the next start ends them on time.
#[test]
fn what_a_killed_blocker_leaves_ends_on_time() {
    let lab = Lab::new();
    for (name, flags, look) in [
        ("nft", vec![], "nft list ruleset"),
        ("ipset", vec![], "ipset save"),
        ("iptables", vec![], "iptables-save"),
        ("route", vec![], "ip route show"),
        ("hosts-deny", vec!["--hosts-deny", "/run/hosts.deny"], "cat /run/hosts.deny 2>/dev/null || true"),
        ("exec", vec!["--exec", "touch /run/{addr}", "--exec-undo", "rm /run/{addr}"], "ls /run"),
    ] {
        let flags = [&["--backend", name][..], &flags].concat();
        let (mut block, mut stdin) = start(&lab, &flags);
        say(&mut stdin, Action::Block, "203.0.113.7", Some(5));
        let first = outcome(&mut block, "203.0.113.7/32");
        assert_eq!(first.body.result, OutcomeResult::Applied, "{name}: {first:?}");
        block.signal(Signal::SIGKILL);
        block.end();
        assert!(lab.guard.sh(look).contains("203.0.113.7"), "{name}: it is there without its maker");
        let (mut block, _stdin) = start(&lab, &flags);
        let outcome = outcome(&mut block, "203.0.113.7/32");
        assert_eq!(outcome.body.result, OutcomeResult::Expired, "{name}");
        let early = first.body.until.unwrap().since(outcome.common.timestamp);
        assert!(early < Duration::from_secs(1), "{name}: {early:?} too early");
        wait_until("it is gone", || !lab.guard.sh(look).contains("203.0.113.7"));
    }
}

/// The kernel may end a block a moment sooner than psentry-block does. Whoever lists in between finds it gone, and its end is said all
/// the same.
#[test]
fn an_end_is_said_though_a_list_found_it_gone_a_moment_before() {
    let lab = Lab::new();
    let (mut block, mut stdin) = start(&lab, &["--backend", "nft"]);
    let list = format!("while :; do {} list; done > /dev/null", bin("psentry-block"));
    let _lists = [(); 4].map(|()| Program::start(lab.guard.command("sh").args(["-c", &list])));
    let scopes: Vec<String> = (1..=25).map(|net| format!("198.18.{net}.7/32")).collect();
    for scope in &scopes {
        say(&mut stdin, Action::Block, scope, Some(5));
        assert_eq!(result(&mut block, scope), OutcomeResult::Applied);
    }
    // What a list found gone a moment too soon is put back, and so ends a moment later than the next one.
    let mut waiting: BTreeSet<String> = scopes.into_iter().collect();
    while !waiting.is_empty() {
        let is_end = |record: &Record| matches!(record, Record::Outcome(it) if it.body.result == OutcomeResult::Expired);
        let Record::Outcome(end) = block.record("another end", is_end) else { panic!() };
        assert!(waiting.remove(&end.body.scope.to_string()), "{end:?}");
    }
}

/// Asked to stop, it leaves what the kernel ends by itself, and ends what only it could end.
#[test]
fn nothing_outlives_its_end_when_it_stops() {
    for (name, look, stays) in [
        ("nft", "nft list ruleset", true),
        ("iptables", "iptables-save", false),
        ("route", "ip route show", false),
    ] {
        let lab = Lab::new();
        let (mut block, mut stdin) = start(&lab, &["--backend", name]);
        say(&mut stdin, Action::Block, "203.0.113.7", Some(600));
        assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Applied);
        let (status, _, errors) = block.terminate();
        assert!(status.success(), "{name}: {errors:?}");
        assert_eq!(lab.guard.sh(look).contains("203.0.113.7"), stays, "{name}");
    }
}

/// At the end of the input it stays until the last block that only it can end has ended.
#[test]
fn at_the_end_of_its_input_it_still_ends_its_blocks() {
    let lab = Lab::new();
    let (mut block, mut stdin) = start(&lab, &["--backend", "route"]);
    say(&mut stdin, Action::Block, "203.0.113.7", Some(3));
    drop(stdin);
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Applied);
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Expired);
    let (status, _, errors) = block.end();
    assert!(status.success(), "{errors:?}");
    assert!(!lab.guard.sh("ip route show").contains("203.0.113.7"));
}
