//! Trouble that a blocker meets in life: a disk, a lock, a set or a socket that is full, held or gone. Whatever it is costs
//! the blocks that need it, is an outcome `failed` with a sentence, holds up nobody else, and is over when it is over.
//!
//! A full disk and a read-only one for what is remembered: `state/disk_faults.rs`. Programs that are missing: `messages.rs` and
//! `repair.rs`.

use std::io::Write;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use psentry_records::{Action, Outcome, OutcomeResult, Record};

use crate::lab::blocker::{block_many, outcome, result, say, start};
use crate::lab::{Lab, Program, bin, complaints, wait_until};

const SCANNER: &str = "203.0.113.7/32";

/// Waits until this backend has applied a block of that scope.
fn applied(block: &mut Program, scope: &str, backend: &str) {
    block.record(&format!("{scope} applied on {backend}"), |record| match record {
        Record::Outcome(o) => {
            o.body.scope.to_string() == scope
                && o.body.backend.as_deref() == Some(backend)
                && o.body.result == OutcomeResult::Applied
        }
        _ => false,
    });
}

#[test]
fn a_directory_that_becomes_read_only_costs_hosts_deny_its_blocks_until_it_is_not() {
    let lab = Lab::new();
    lab.guard.sh("mkdir /run/etc; mount --bind /run/etc /run/etc");
    let (mut block, mut stdin) =
        start(&lab, &["--backend", "nft", "--backend", "hosts-deny", "--hosts-deny", "/run/etc/hosts.deny"]);
    say(&mut stdin, Action::Block, "203.0.113.6", Some(600));
    applied(&mut block, "203.0.113.6/32", "hosts-deny");
    lab.guard.sh("mount -o remount,bind,ro /run/etc");
    say(&mut stdin, Action::Block, SCANNER, Some(600));
    let both = [outcome(&mut block, SCANNER).body, outcome(&mut block, SCANNER).body];
    let of = |name: &str| both.iter().find(|body| body.backend.as_deref() == Some(name)).unwrap();
    assert_eq!(of("nft").result, OutcomeResult::Applied);
    assert_eq!(of("hosts-deny").result, OutcomeResult::Failed);
    let why = of("hosts-deny").error.as_deref().unwrap();
    assert!(why.starts_with("/run/etc") && why.contains("Read-only"), "{why}");
    lab.guard.sh("mount -o remount,bind,rw /run/etc");
    applied(&mut block, SCANNER, "hosts-deny");
    assert_eq!(lab.guard.sh("cat /run/etc/hosts.deny").matches("ALL: 203.0.113.").count(), 2);
}

#[test]
fn without_the_right_to_every_backend_says_which_right_it_is() {
    let lab = Lab::new();
    for backend in ["nft", "iptables", "ipset", "route"] {
        let line = ["unshare", "--user", "--map-user=1000", "env", "RUNTIME_DIRECTORY=/tmp/psentry-nobody"];
        let line = [&line[..], &[bin("psentry-block"), "--backend", backend]].concat();
        let output = lab.guard.run(&line);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(77), "{backend}: {said}");
        assert!(said.contains("needs CAP_NET_ADMIN"), "{backend}: {said}");
    }
    lab.guard.sh("rm -rf /tmp/psentry-nobody");
}

/// The lock of legacy iptables: a backend that waits for it keeps the next one waiting for its patience of two seconds, and the
/// commands not at all.
#[test]
fn a_lock_that_another_holds_is_waited_for() {
    let lab = Lab::new();
    lab.guard.sh("mkdir /run/legacy; for name in iptables iptables-restore ip6tables ip6tables-restore; do
        ln -s $(command -v $(echo $name | sed s/tables/tables-legacy/)) /run/legacy/$name; done");
    let path = format!("/run/legacy:{}", std::env::var("PATH").unwrap());
    let mut command = lab.guard.command(bin("psentry-block"));
    command.args(["--backend", "iptables", "--backend", "nft"]).env("PATH", path);
    let mut block = Program::start_fed(&mut command);
    let mut stdin = block.stdin();
    say(&mut stdin, Action::Block, "203.0.113.6", Some(600));
    applied(&mut block, "203.0.113.6/32", "iptables");
    applied(&mut block, "203.0.113.6/32", "nft");
    let mut holder = Program::start_fed(lab.guard.command("flock").args([
        "/run/xtables.lock",
        "sh",
        "-c",
        "echo held; read go",
    ]));
    let mut go = holder.stdin();
    holder.line("held", |line| line == "held");
    say(&mut stdin, Action::Block, "198.18.0.1", Some(600));
    applied(&mut block, "198.18.0.1/32", "nft");
    // The answer names the one that is late, and does not wait for it.
    let why = lab.guard.run(&[bin("psentry-block"), "why", "198.18.0.1"]);
    let (said, late) = (String::from_utf8_lossy(&why.stdout), String::from_utf8_lossy(&why.stderr));
    assert!(said.contains("it is being blocked"), "iptables waits for the lock: {said}");
    assert!(late.contains("iptables has not answered"), "{late}");
    go.write_all(b"\n").unwrap();
    applied(&mut block, "198.18.0.1/32", "iptables");
    holder.end();
}

/// Sets that somebody made before, and smaller.
#[test]
fn a_full_set_takes_the_next_one_when_there_is_room_again() {
    let lab = Lab::new();
    lab.guard.sh(
        "nft 'add table inet psentry; add set inet psentry v4_32 { type ipv4_addr; flags timeout; size 2; }'
        ipset create psentry4 hash:net family inet timeout 0 maxelem 2 comment",
    );
    for (backend, words) in [("nft", "nft's set v4_32 is full (2 entries)"), ("ipset", "is full")] {
        // What was wanted of the other one is no affair of this one.
        lab.guard.sh("rm -rf /run/psentry-block");
        let (mut block, mut stdin) = start(&lab, &["--backend", backend]);
        for scope in ["203.0.113.7/32", "203.0.113.8/32"] {
            say(&mut stdin, Action::Block, scope, Some(600));
            assert_eq!(result(&mut block, scope), OutcomeResult::Applied, "{backend}");
        }
        say(&mut stdin, Action::Block, "203.0.113.9/32", Some(600));
        let told = outcome(&mut block, "203.0.113.9/32").body;
        assert_eq!(told.result, OutcomeResult::Failed, "{backend}");
        let why = told.error.unwrap();
        assert!(why.contains(words), "{backend}: {why}");
        // What stands already may stand for longer: that takes no room.
        say(&mut stdin, Action::Block, "203.0.113.8/32", Some(3600));
        assert_eq!(result(&mut block, "203.0.113.8/32"), OutcomeResult::Applied, "{backend}");
        if backend == "nft" {
            // Beside many that find none, too.
            for n in 10..40 {
                say(&mut stdin, Action::Block, &format!("203.0.113.{n}"), Some(600));
            }
            say(&mut stdin, Action::Block, "203.0.113.8/32", Some(7200));
            assert_eq!(result(&mut block, "203.0.113.8/32"), OutcomeResult::Applied, "{backend}");
            for n in 10..40 {
                say(&mut stdin, Action::Unblock, &format!("203.0.113.{n}"), None);
            }
        }
        say(&mut stdin, Action::Unblock, "203.0.113.7/32", None);
        assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Released, "{backend}");
        assert_eq!(result(&mut block, "203.0.113.9/32"), OutcomeResult::Applied, "{backend}");
    }
}

/// The kernel drops what it cannot tell: then anything may have happened, and all is looked at.
#[test]
fn a_flood_of_notifications_hides_no_damage() {
    let lab = Lab::new();
    let (mut block, mut stdin) = start(&lab, &["--backend", "nft"]);
    say(&mut stdin, Action::Block, SCANNER, Some(600));
    assert_eq!(result(&mut block, SCANNER), OutcomeResult::Applied);
    block.signal(Signal::SIGSTOP);
    // A hundred and sixty thousand elements come, and go again: more than the socket has room for.
    lab.guard.sh("nft 'add table inet flood; add set inet flood every { type ipv4_addr; }'
        for n in $(seq 80); do
            for m in $(seq 0 7); do echo \"add element inet flood every { $(seq -s, -f 10.$n.$m.%.0f 0 249) }\"; done | nft -f -
        done
        nft flush set inet flood every; nft delete table inet psentry");
    block.signal(Signal::SIGCONT);
    let said = block.complaint("put back");
    println!("{said}");
    assert!(said.contains("somebody deleted"), "it was told that something was lost: {said}");
    assert!(lab.guard.sh("nft list set inet psentry v4_32").contains("203.0.113.7"));
}

/// Calls that are interrupted are made again. A process that is stopped and goes on is interrupted in most of them.
#[test]
fn signals_in_a_loop_lose_nothing() {
    let lab = Lab::new();
    let flags = ["--backend", "nft", "--backend", "ipset", "--backend", "route", "--backend", "exec"];
    let flags = [&flags[..], &["--exec", "true {addr}", "--exec-undo", "true {addr}"]].concat();
    let (mut block, mut stdin) = start(&lab, &flags);
    let feeder = std::thread::spawn(move || {
        for n in 0..60 {
            say(&mut stdin, Action::Block, &format!("198.18.0.{n}"), Some(600));
            std::thread::sleep(Duration::from_millis(5));
        }
        stdin
    });
    let mut count = 0;
    while count < 4 * 60 {
        for signal in [Signal::SIGSTOP, Signal::SIGCONT, Signal::SIGWINCH, Signal::SIGURG] {
            block.signal(signal);
        }
        let is_outcome = |record: &Record| matches!(record, Record::Outcome(_));
        let Record::Outcome(told) = block.record("an outcome", is_outcome) else { panic!() };
        assert_eq!(told.body.result, OutcomeResult::Applied, "{told:?}");
        count += 1;
    }
    drop(feeder.join().unwrap());
    let (status, _, errors) = block.terminate();
    assert!(status.success(), "{errors:?}");
    assert!(complaints(&errors).iter().all(|line| line.contains("staying until")), "{errors:?}");
}

/// Commands run beside each other, and hold up no other backend.
#[test]
fn commands_that_take_long_run_beside_each_other() {
    let lab = Lab::new();
    let flags = ["--backend", "nft", "--backend", "exec", "--exec", "sh -c 'sleep 2; touch /run/$0' {addr}"];
    let (mut block, stdin) = start(&lab, &[&flags[..], &["--exec-jobs", "4"]].concat());
    let asked = Instant::now();
    let feeder = std::thread::spawn(move || {
        let mut stdin = stdin;
        for n in 0..1000 {
            let scope = format!("198.18.{}.{}", n / 250, n % 250);
            say(&mut stdin, Action::Block, &scope, Some(600));
        }
        stdin
    });
    for _ in 0..1000 {
        block.record("applied on nft", |record| match record {
            Record::Outcome(o) => {
                o.body.backend.as_deref() == Some("nft") && o.body.result == OutcomeResult::Applied
            }
            _ => false,
        });
    }
    let nft = asked.elapsed();
    wait_until("the first commands are done", || lab.guard.sh("ls /run").matches("198.18.").count() >= 8);
    println!("a thousand on nft after {nft:.0?}, eight commands of 2 s after {:.0?}", asked.elapsed());
    assert!(nft < Duration::from_secs(4), "{nft:?}");
    assert!(
        asked.elapsed() < Duration::from_secs(8),
        "one after the other they take 16 s: {:?}",
        asked.elapsed()
    );
    block.signal(Signal::SIGKILL);
    drop(feeder.join().unwrap());
}

/// One command that does not end takes one slot: the others are used on, and each outcome is told when it is known.
#[test]
fn a_command_that_takes_long_holds_up_no_other_command() {
    let lab = Lab::new();
    let command = "sh -c 'until test $0 != 198.18.0.0 -o -e /run/go; do sleep 0.05; done' {addr}";
    let flags = ["--backend", "exec", "--exec", command, "--exec-timeout", "2m", "--exec-jobs", "2"];
    let (mut block, mut stdin) = start(&lab, &flags);
    for n in 0..40 {
        say(&mut stdin, Action::Block, &format!("198.18.0.{n}"), Some(600));
    }
    // That none of these is the first one shows that it is not done.
    for _ in 1..40 {
        let outcome = block.record("an outcome", |record| matches!(record, Record::Outcome(_)));
        let Record::Outcome(Outcome { body, .. }) = outcome else { panic!() };
        assert_eq!(body.result, OutcomeResult::Applied);
        assert_ne!(body.scope.to_string(), "198.18.0.0/32");
    }
    lab.guard.sh("touch /run/go");
    assert_eq!(result(&mut block, "198.18.0.0/32"), OutcomeResult::Applied);
}

/// A backend that cannot work says so, and is tried again until it can.
#[test]
fn after_trouble_it_still_repairs() {
    let lab = Lab::new();
    let (mut block, stdin) = start(&lab, &["--backend", "nft"]);
    let mut stdin = block_many(&mut block, stdin, 300);
    lab.guard.sh(
        "cp $(command -v nft) /run/nft; mount -t tmpfs tmpfs /usr/sbin; /run/nft delete table inet psentry",
    );
    block.complaint("nft cannot work, and is tried again");
    say(&mut stdin, Action::Block, SCANNER, Some(600));
    assert_eq!(result(&mut block, SCANNER), OutcomeResult::Failed);
    let status = lab.guard.run(&[bin("psentry-block"), "status"]);
    assert_eq!(status.status.code(), Some(1), "{}", String::from_utf8_lossy(&status.stdout));
    lab.guard.sh("umount /usr/sbin");
    let elements =
        || lab.guard.sh("nft list set inet psentry v4_32 2>/dev/null || true").matches(" expires ").count();
    wait_until("all are there again", || elements() == 301);
    assert_eq!(result(&mut block, SCANNER), OutcomeResult::Applied);
}
