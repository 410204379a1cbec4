//! psentry-block puts right what others change: whatever they delete is back within a second, with the time that it had left,
//! whatever they add is deleted, and there is no fight. Times are printed.

mod booted;
mod flush;
mod hosts_deny;
mod saved;
mod shadowed;
mod single;
mod xtables;

use std::process::ChildStdin;
use std::time::{Duration, Instant};

use psentry_records::{Action, OutcomeResult};

use crate::lab::blocker::{block_many, outcome, result, say, start};
use crate::lab::{GUARD, Host, Lab, Program, bin, wait_until};

const SECOND: Duration = Duration::from_secs(1);
const SCANNER: &str = "203.0.113.7/32";

/// The ruleset of an administrator who does not know of psentry.
const RULESET: &str = "printf 'flush ruleset\\ntable inet filter { chain input { type filter hook input priority 0; \
    tcp dport 22 accept; }; }\\n' | nft -f -";

/// Blocks scopes for ten minutes.
fn block(program: &mut Program, stdin: &mut ChildStdin, scopes: &[&str]) {
    for scope in scopes {
        say(stdin, Action::Block, scope, Some(600));
        assert_eq!(result(program, scope), OutcomeResult::Applied);
    }
}

fn count(guard: &Host, set: &str) -> usize {
    let list = guard.run(&["nft", "list", "set", "inet", "psentry", set]);
    String::from_utf8_lossy(&list.stdout).matches(" expires ").count()
}

fn rules(guard: &Host) -> usize {
    let list = guard.run(&["nft", "list", "chain", "inet", "psentry", "prerouting"]);
    String::from_utf8_lossy(&list.stdout).matches(" drop").count()
}

/// How many seconds an element has left.
fn left(guard: &Host, element: &str) -> u64 {
    let left = guard.sh(&format!(
        "nft -j list set inet psentry v4_32 | jq '.nftables[].set.elem // empty | .[].elem |
            select(.val == \"{element}\").expires'"
    ));
    left.trim().parse().unwrap_or_else(|_| panic!("{element} has no end: {left}"))
}

/// Longer than it takes where every change is reported, or looked for once a second.
const NAP: Duration = Duration::from_secs(15);

/// Has somebody do damage, and waits until all is whole again; how much of the processor's time that costs psentry-block
/// and the programs that it runs. Of the clock's most belongs to others on a busy machine: by that it is only known that
/// the damage was seen at once, and not by chance.
fn damaged(program: &Program, guard: &Host, vandal: &str, whole: impl Fn() -> bool) -> Duration {
    let before = program.processor_time();
    guard.sh(vandal);
    let start = Instant::now();
    wait_until(&format!("all is back after {vandal}"), whole);
    let (clock, took) = (start.elapsed(), program.processor_time() - before);
    println!("{clock:>7.0?} by the clock");
    assert!(clock < NAP, "{clock:?}: {vandal}");
    took
}

/// Waits until psentry-block says that a block that others deleted or changed is put back.
fn put_back(program: &mut Program, scope: &str) {
    let told = outcome(program, scope).body;
    assert_eq!(
        (told.action, told.result, told.error),
        (Action::Block, OutcomeResult::Applied, None),
        "{scope}"
    );
    let why = told.reason.unwrap();
    assert!(why.starts_with("put back, because "), "{why}");
    assert!(why.ends_with(&format!("'psentry-block unblock {scope}'")), "{why}");
}

#[test]
fn whatever_others_delete_is_back_within_a_second() {
    let lab = Lab::new();
    let _service = lab.service(8088);
    let guard = &lab.guard;
    let whole = || {
        let sets = [("v4_32", 2), ("v4_24", 1), ("v6_64", 1)];
        let wrong =
            guard.ok(&["sh", "-c", "nft list table inet psentry | grep -Eq 'dormant|^ *accept|saddr 192'"]);
        sets.iter().all(|(set, want)| count(guard, set) == *want) && rules(guard) == 3 && !wrong
    };
    let vandals = [
        "nft flush ruleset",
        RULESET,
        "nft delete table inet psentry",
        "nft flush table inet psentry",
        "nft flush chain inet psentry prerouting",
        "nft 'flush chain inet psentry prerouting; delete chain inet psentry prerouting'",
        "nft flush set inet psentry v4_32",
        "nft 'flush chain inet psentry prerouting; delete set inet psentry v4_24'",
        "nft delete rule inet psentry prerouting handle \
             $(nft -a list chain inet psentry prerouting | sed -n 's/.*@v4_32 .*handle //p')",
        "nft add table inet psentry '{ flags dormant; }'",
        "nft insert rule inet psentry prerouting accept",
        "nft 'add rule inet psentry prerouting ip saddr 192.0.2.8 drop'",
    ];
    // More within a minute would be a fight.
    for vandals in vandals.chunks(6) {
        let (mut program, mut stdin) = start(&lab, &["--backend", "nft"]);
        let before = Instant::now();
        block(&mut program, &mut stdin, &[SCANNER, "203.0.113.8/32", "198.18.0.0/24", "2001:db8:7::/64"]);
        let after = Instant::now();
        assert!(whole());
        for vandal in vandals {
            let took = damaged(&program, guard, vandal, whole);
            println!("{took:>7.0?} {vandal}");
            assert!(took < SECOND, "{took:?}: {vandal}");
            let said = program.complaint("put back");
            assert!(said.contains("'nft' (process "), "{said}");
            let (least, left, most) =
                (after.elapsed().as_secs(), left(guard, "203.0.113.7"), before.elapsed().as_secs());
            assert!(
                (598 - most..=600 - least).contains(&left),
                "{left} s left after {least} to {most} s: {vandal}"
            );
        }
        assert!(lab.scanner.is_shut_out(GUARD[0], 8088));
        assert!(lab.innocent.reaches(GUARD[0], 8088));
        guard.sh(&format!("{} flush", bin("psentry-block")));
    }
}

#[test]
fn a_thousand_and_ten_thousand_blocks_are_back_within_a_second() {
    for many in [1000, 10_000] {
        let lab = Lab::new();
        let (mut program, stdin) = start(&lab, &["--backend", "nft"]);
        let _stdin = block_many(&mut program, stdin, many);
        let took = damaged(&program, &lab.guard, "nft flush ruleset", || {
            count(&lab.guard, "v4_32") == many as usize
        });
        let said = program.complaint("put back");
        println!("{took:>7.0?} {many} blocks; {said}");
        // Of so many the sentence is enough.
        let (_, output, _) = program.terminate();
        assert!(!output.iter().any(|line| line.contains("put back")));
        // A build without optimization spends its time on itself.
        let limit = if cfg!(debug_assertions) && many > 1000 { 3 * SECOND } else { SECOND };
        assert!(took < limit, "{took:?} for {many} blocks");
        assert!(said.contains(&format!("and {many} blocks")), "{said}");
    }
}

/// A restart of the firewall flushes twice, the second time in the middle of a repair.
#[test]
fn a_change_in_the_middle_of_a_repair_is_repaired_too() {
    let lab = Lab::new();
    let (mut program, stdin) = start(&lab, &["--backend", "nft"]);
    let _stdin = block_many(&mut program, stdin, 1000);
    for pause in ["0", "0.02", "0.04", "0.06"] {
        let restart = format!("nft flush ruleset; sleep {pause}; {RULESET}");
        let took = damaged(&program, &lab.guard, &restart, || count(&lab.guard, "v4_32") == 1000);
        println!("{took:>7.0?} two flushes, {pause} s apart");
        assert!(took < SECOND, "{took:?}: {pause}");
    }
}

/// What psentry-block does itself, and what ends in time, is no damage.
#[test]
fn its_own_changes_cause_no_repair() {
    let lab = Lab::new();
    let (mut program, stdin) = start(&lab, &["--backend", "nft"]);
    let mut stdin = block_many(&mut program, stdin, 3000);
    for (scope, duration) in [("203.0.113.7/32", 1), ("203.0.113.16/28", 1), ("198.18.0.1/32", 3600)] {
        say(&mut stdin, Action::Block, scope, Some(duration));
        assert_eq!(result(&mut program, scope), OutcomeResult::Applied);
    }
    say(&mut stdin, Action::Unblock, "198.18.0.2/32", None);
    assert_eq!(result(&mut program, "198.18.0.2/32"), OutcomeResult::Released);
    // Both that last a second have ended, perhaps while something else was awaited.
    let ended = |program: &Program| program.said().iter().filter(|line| line.contains("\"expired\"")).count();
    while ended(&program) < 2 {
        program.line("a block that ends", |_| true);
    }
    // Others change what is theirs.
    lab.guard.sh("nft add table inet other; nft delete table inet other");
    // What ended is not put back.
    let took = damaged(&program, &lab.guard, "nft flush ruleset", || count(&lab.guard, "v4_32") == 2999);
    println!("{took:>7.0?} 2999 blocks");
    assert!(!lab.guard.sh("nft list ruleset").contains("203.0.113."));
    let (status, _, errors) = program.terminate();
    assert!(status.success());
    let repairs: Vec<_> = errors.iter().filter(|line| line.contains("put back")).collect();
    assert!(matches!(&*repairs, [one] if one.contains("2999 blocks")), "{errors:?}");
}

/// Somebody who flushes again and again is told of, and not fought, however often somebody asks how it is.
#[test]
fn a_fighter_is_not_fought() {
    let lab = Lab::new();
    let (mut program, mut stdin) = start(&lab, &["--backend", "nft"]);
    block(&mut program, &mut stdin, &[SCANNER]);
    // Until that is told, however long it takes: what is put back after ten seconds more is no fight.
    let fighter = "while :; do nft flush ruleset; sleep 0.05; done";
    let fighter = Program::start(lab.guard.command("sh").args(["-c", fighter]));
    let said = program.complaint("again and again");
    drop(fighter);
    assert!(said.contains("every 10 s"), "{said}");
    lab.guard.sh("nft flush ruleset");
    let start = Instant::now();
    for _ in 0..5 {
        assert!(!lab.guard.ok(&[bin("psentry-block"), "status", "--json"]), "it is not enforced");
        assert_eq!(
            lab.guard.read(&[bin("psentry-block"), "list", "--json"]),
            "",
            "who asks has nothing put back"
        );
    }
    // In the end it is there nevertheless.
    wait_until("it is back", || count(&lab.guard, "v4_32") == 1);
    println!("{:>7.0?} after a fight", start.elapsed());
    // A verdict is not held up by the fight.
    lab.guard.sh("nft flush ruleset");
    say(&mut stdin, Action::Block, "203.0.113.8/32", Some(600));
    assert_eq!(result(&mut program, "203.0.113.8/32"), OutcomeResult::Applied);
    let (_, _, errors) = program.terminate();
    assert!(!errors.iter().any(|line| line.contains("again and again")), "told once: {errors:?}");
    let repairs = errors.iter().filter(|line| line.contains("put back")).count();
    assert!(repairs <= 1, "{repairs} repairs after it had been told: {errors:?}");
}

/// The same where one repair is several batches, so that he is quicker than it.
#[test]
fn a_fighter_against_thousands_of_blocks_is_not_fought_either() {
    let lab = Lab::new();
    let (mut program, stdin) = start(&lab, &["--backend", "nft"]);
    let mut stdin = block_many(&mut program, stdin, 9000);
    let fighter = "while :; do nft flush set inet psentry v4_32; sleep 0.02; done";
    let fighter = Program::start(lab.guard.command("sh").args(["-c", fighter]));
    let said = program.complaint("again and again");
    // A verdict has its turn meanwhile.
    say(&mut stdin, Action::Block, "203.0.113.8/32", Some(600));
    assert_eq!(result(&mut program, "203.0.113.8/32"), OutcomeResult::Applied);
    drop(fighter);
    assert!(said.contains("every 10 s"), "{said}");
}

/// What cannot be put back is told, tried again, and there once it can be.
#[test]
fn a_repair_that_fails_is_told_and_tried_again() {
    let lab = Lab::new();
    let (mut program, mut stdin) = start(&lab, &["--backend", "nft"]);
    block(&mut program, &mut stdin, &[SCANNER]);
    lab.guard.sh("cp $(command -v nft) /run/nft; mount -t tmpfs tmpfs /usr/sbin; /run/nft flush ruleset");
    program.complaint("nft cannot work, and is tried again: --backend nft needs the program 'nft'");
    let status = lab.guard.run(&[bin("psentry-block"), "status", "--json"]);
    assert_eq!(status.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&status.stderr).contains("needs the program 'nft'"), "{status:?}");
    // A verdict that cannot be applied has its answer at once.
    say(&mut stdin, Action::Block, "203.0.113.8/32", Some(600));
    let told = outcome(&mut program, "203.0.113.8/32").body;
    assert_eq!(told.result, OutcomeResult::Failed);
    assert!(told.error.as_ref().is_some_and(|why| why.contains("nft")), "{told:?}");
    lab.guard.sh("umount /usr/sbin");
    program.complaint("nft works again");
    put_back(&mut program, SCANNER);
    wait_until("both are there", || (count(&lab.guard, "v4_32"), rules(&lab.guard)) == (2, 2));
}
