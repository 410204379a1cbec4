//! A journal on a disk that is full or read-only, that another psentry-block keeps, that is no file, or that holds more than may
//! be blocked: blocking goes on, and what is wrong is said. Torn lines are a unit test of the journal.

use super::*;
use crate::lab::{DISK_WAIT, wait_until_within};

/// Remembers some blocks and is killed.
fn remembering(state: &State, scopes: &[&str]) {
    let lab = Lab::new();
    let (mut block, mut stdin) = start(&lab, &state.flags(&["--backend", "nft"]));
    for scope in scopes {
        say(&mut stdin, Action::Block, scope, Some(600));
        assert_eq!(result(&mut block, scope), OutcomeResult::Applied);
    }
    kill(&mut block);
}

/// Starts after a reboot; whom it blocks then.
fn back(state: &State) -> Vec<String> {
    let lab = Lab::new();
    let (mut block, _stdin) = start(&lab, &state.flags(&["--backend", "nft"]));
    restored(&mut block);
    listed(&lab, &["--backend", "nft"]).into_iter().map(|(scope, ..)| scope).collect()
}

#[test]
fn a_full_disk_is_told_once_and_blocking_goes_on() {
    let lab = Lab::new();
    lab.guard.sh("mkdir /run/full; mount -t tmpfs -o size=64k tmpfs /run/full");
    let flags = ["--backend", "nft", "--state", "/run/full"];
    let (mut block, mut stdin) = start(&lab, &flags);
    say(&mut stdin, Action::Block, "203.0.113.6/32", Some(600));
    assert_eq!(result(&mut block, "203.0.113.6/32"), OutcomeResult::Applied);
    lab.guard.run(&["sh", "-c", "head -c 100k /dev/zero > /run/full/ballast"]);
    // More than the page that the journal already has.
    let mut stdin = block_many(&mut block, stdin, 150);
    let said = block.complaint("No space left");
    assert!(said.contains("not remembered"), "{said}");
    say(&mut stdin, Action::Unblock, "198.18.0.1", None);
    assert_eq!(result(&mut block, "198.18.0.1/32"), OutcomeResult::Released);
    let status = lab.guard.run(&[bin("psentry-block"), "status", "--json"]);
    let status_said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(!status.status.success() && status_said.contains("changes are not remembered"), "{status:?}");
    lab.guard.sh("rm /run/full/ballast");
    block.complaint("is remembered again");
    block.signal(Signal::SIGKILL);
    let (_, _, errors) = block.end();
    assert!(!errors.iter().any(|line| line.contains("No space left")), "told once: {errors:?}");
    lab.guard.sh("nft delete table inet psentry");
    let (mut block, _stdin) = start(&lab, &flags);
    assert_eq!(restored(&mut block), 150);
}

/// Who is released while the disk is full stays released, though nothing of that can be appended: a journal without him takes
/// no room.
#[test]
fn a_flush_on_a_full_disk_outlives_a_kill() {
    let lab = Lab::new();
    lab.guard.sh("mkdir /run/full; mount -t tmpfs -o size=64k tmpfs /run/full");
    let flags = ["--backend", "nft", "--state", "/run/full"];
    let (mut block, stdin) = start(&lab, &flags);
    let stdin = block_many(&mut block, stdin, 150);
    lab.guard.run(&["sh", "-c", "head -c 100k /dev/zero > /run/full/ballast"]);
    let output = lab.guard.run(&[bin("psentry-block"), "flush", "--json"]);
    assert!(output.status.success(), "{output:?}");
    wait_until("it is written", || lab.guard.sh("wc -c < /run/full/journal.jsonl").trim() == "0");
    block.signal(Signal::SIGKILL);
    block.end();
    drop(stdin);
    let (mut block, _stdin) = start(&lab, &flags);
    assert_eq!(restored(&mut block), 0);
}

#[test]
fn a_read_only_journal_is_still_read() {
    let state = State::new();
    remembering(&state, &["203.0.113.7/32"]);
    let lab = Lab::new();
    lab.guard.sh(&format!("mount --bind {0} {0}; mount -o remount,bind,ro {0}", state.path()));
    let (mut block, mut stdin) = start(&lab, &state.flags(&["--backend", "nft"]));
    let said = block.complaint("Read-only");
    assert!(said.contains("not remembered"), "{said}");
    assert_eq!(restored(&mut block), 1);
    say(&mut stdin, Action::Block, "203.0.113.8/32", Some(600));
    assert_eq!(result(&mut block, "203.0.113.8/32"), OutcomeResult::Applied);
    let (_, _, errors) = block.terminate();
    assert!(!errors.iter().any(|line| line.contains("Read-only")), "told once: {errors:?}");
    assert_eq!(back(&state), ["203.0.113.7/32"]);
}

#[test]
fn what_became_an_own_address_is_not_put_back_and_forgotten() {
    let state = State::new();
    remembering(&state, &["203.0.113.7/32", "203.0.113.77/32"]);
    let lab = Lab::new();
    lab.guard.sh("ip address add 203.0.113.77/32 dev lo");
    let (mut block, _stdin) = start(&lab, &state.flags(&["--backend", "nft"]));
    assert_eq!(result(&mut block, "203.0.113.77/32"), OutcomeResult::Refused);
    assert_eq!(restored(&mut block), 1);
    assert!(!lab.guard.sh("nft list ruleset").contains("203.0.113.77"));
    kill(&mut block);
    assert_eq!(back(&state), ["203.0.113.7/32"]);
}

#[test]
fn no_two_remember_in_one_place() {
    let (state, lab) = (State::new(), Lab::new());
    let flags = state.flags(&["--backend", "nft"]);
    let (mut block, mut stdin) = start(&lab, &flags);
    say(&mut stdin, Action::Block, "203.0.113.7/32", Some(600));
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Applied);
    let (mut second, _stdin) = start(&lab, &flags);
    let (status, _, errors) = second.end();
    assert_eq!(status.code(), Some(71), "{errors:?}");
    assert!(errors[0].contains("another psentry-block"), "{errors:?}");
}

#[test]
fn no_more_is_put_back_than_is_allowed() {
    let state = State::new();
    remembering(&state, &["203.0.113.6/32", "203.0.113.7/32", "203.0.113.8/32"]);
    let lab = Lab::new();
    let (mut block, _stdin) = start(&lab, &state.flags(&["--backend", "nft", "--max-blocks", "2"]));
    let said = block.complaint("--max-blocks 2");
    assert!(said.contains("1 of 3 remembered blocks"), "{said}");
    assert_eq!(restored(&mut block), 2);
}

/// However much comes and goes, the journal stays about as long as what is in it.
#[test]
fn the_journal_does_not_grow_for_ever() {
    let state = State::new();
    let lab = Lab::new();
    let (mut block, mut stdin) = start(&lab, &state.flags(&["--backend", "nft"]));
    say(&mut stdin, Action::Block, "203.0.113.7/32", Some(600));
    for _ in 0..3 {
        stdin = block_many(&mut block, stdin, 1000);
        for n in 0..1000 {
            say(&mut stdin, Action::Unblock, &format!("198.18.{}.{}", n / 250, n % 250), None);
            if n % 200 == 199 {
                result(&mut block, &format!("198.18.{}.{}/32", n / 250, n % 250));
            }
        }
    }
    let length = || state.journal().metadata().unwrap().len();
    // All that was written is more than 800 KiB; a thousand blocks are some 170 KiB, and twice that is no reason to shorten it.
    wait_until_within(DISK_WAIT, "it is short", || length() < 400 * 1024);
    kill(&mut block);
    println!("{} KiB", length() / 1024);
    assert_eq!(back(&state), ["203.0.113.7/32"]);
}

/// A blocker that was taken over may put anything in the place of its journal. Root, who releases somebody or looks, is neither
/// kept waiting nor led to another file.
#[test]
fn what_is_no_file_in_place_of_the_journal_hangs_no_command() {
    let lab = Lab::new();
    lab.guard.sh("mkdir /run/state; echo secret > /run/other");
    let flags = ["--state", "/run/state", "--backend", "nft"];
    for (make, name) in
        [("mkfifo", "journal.jsonl"), ("ln -s /run/other", "journal.jsonl"), ("mkfifo", "nft.jsonl")]
    {
        lab.guard.sh(&format!("{make} /run/state/{name}"));
        for command in [
            &["list"][..],
            &["status"],
            &["why", "203.0.113.7"],
            &["block", "203.0.113.7"],
            &["unblock", "203.0.113.7"],
            &["flush"],
        ] {
            let mut run = lab.guard.command(bin("psentry-block"));
            let mut run = Program::start(run.args(command).args(flags));
            let (_, output, errors) = run.end();
            let said = errors.iter().any(|line| line.contains(&format!("/run/state/{name}: ")));
            assert!(said, "{make} {name}: {command:?}: {output:?} {errors:?}");
        }
        // Who reads verdicts blocks all the same.
        let (mut block, mut stdin) = start(&lab, &flags);
        say(&mut stdin, Action::Block, "203.0.113.7/32", Some(600));
        assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Applied, "{make} {name}");
        block.terminate();
        assert_eq!(lab.guard.sh("cat /run/other"), "secret\n");
        lab.guard.sh("rm -f /run/state/*");
    }
}
