//! Trouble that a blocker meets in life: a disk, a lock, a set or a socket that is full, held or gone. Whatever it is costs
//! the blocks that need it, is an outcome `failed` with a sentence, holds up nobody else (`faults/hanging.rs`), and is over when it is
//! over.
//!
//! A full disk and a read-only one for what is remembered: `state/disk_faults.rs`. Programs that are missing: `messages.rs` and
//! `repair.rs`.

mod hanging;

use std::time::Duration;

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

/// A set that somebody made before, and smaller.
#[test]
fn a_full_set_takes_the_next_one_when_there_is_room_again() {
    let lab = Lab::new();
    lab.guard.sh("ipset create psentry4 hash:net family inet timeout 0 maxelem 2 comment");
    let (mut block, mut stdin) = start(&lab, &["--backend", "ipset"]);
    for scope in ["203.0.113.7/32", "203.0.113.8/32"] {
        say(&mut stdin, Action::Block, scope, Some(600));
        assert_eq!(result(&mut block, scope), OutcomeResult::Applied);
    }
    say(&mut stdin, Action::Block, "203.0.113.9/32", Some(600));
    let told = outcome(&mut block, "203.0.113.9/32").body;
    assert_eq!(told.result, OutcomeResult::Failed);
    let why = told.error.unwrap();
    assert!(why.contains("ipset's set psentry4 is full (2 entries)"), "{why}");
    // What is there already may be there for longer: that takes no room.
    say(&mut stdin, Action::Block, "203.0.113.8/32", Some(3600));
    assert_eq!(result(&mut block, "203.0.113.8/32"), OutcomeResult::Applied);
    say(&mut stdin, Action::Unblock, "203.0.113.7/32", None);
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Released);
    assert_eq!(result(&mut block, "203.0.113.9/32"), OutcomeResult::Applied);
}

/// One that holds fewer elements, and one that holds none of ours: both are made anew, at the start and while it runs.
#[test]
fn a_set_of_nft_that_somebody_made_in_another_way_is_made_anew() {
    let lab = Lab::new();
    lab.guard.sh(
        "nft 'add table inet psentry; add set inet psentry v4_32 { type ipv4_addr; flags timeout; size 1; }'",
    );
    let (mut block, mut stdin) = start(&lab, &["--backend", "nft"]);
    let scopes = ["203.0.113.7/32", "203.0.113.8/32"];
    for scope in scopes {
        say(&mut stdin, Action::Block, scope, Some(600));
        assert_eq!(result(&mut block, scope), OutcomeResult::Applied);
    }
    let there = || {
        let set = lab.guard.sh("nft list set inet psentry v4_32 2>&1 || true");
        scopes.iter().all(|scope| set.contains(scope.trim_end_matches("/32")))
    };
    assert!(there());
    for kind in ["type ipv4_addr; flags timeout; size 1;", "type ipv4_addr; size 262144;"] {
        lab.guard.sh(&format!(
            "nft 'flush ruleset; add table inet psentry; add set inet psentry v4_32 {{ {kind} }}'"
        ));
        wait_until("they are back", there);
        wait_until("all is well", || lab.guard.ok(&[bin("psentry-block"), "status", "--json"]));
    }
}

/// The kernel drops notifications that find no room: then anything may have happened, and all is listed.
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
    assert!(said.contains("somebody deleted"), "who it was is not known: {said}");
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
    // Its input has not ended, of which it would speak.
    let _stdin = feeder.join().unwrap();
    let (status, _, errors) = block.terminate();
    assert!(status.success(), "{errors:?}");
    assert_eq!(complaints(&errors), Vec::<&str>::new());
}

/// Commands run beside each other, and hold up no other backend.
#[test]
fn commands_that_take_long_run_beside_each_other() {
    let lab = Lab::new();
    let flags = [
        "--backend",
        "nft",
        "--backend",
        "exec",
        "--exec",
        "sh -c 'touch /run/begun-$0; sleep 2; touch /run/done-$0' {addr}",
    ];
    let (mut block, stdin) = start(&lab, &[&flags[..], &["--exec-jobs", "4"]].concat());
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
    let count = || {
        let files = lab.guard.sh("ls /run");
        ["begun-", "done-"].map(|what| files.matches(what).count())
    };
    let [_, done] = count();
    assert!(done < 1000, "nft waited for all commands");
    println!("a thousand on nft, beside {done} commands of 2 s");
    wait_until("four are run at once", || {
        let [begun, done] = count();
        begun - done >= 4
    });
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

/// All of it at once, and a repair.
#[test]
fn after_trouble_all_is_put_back() {
    let lab = Lab::new();
    let (mut block, stdin) = start(&lab, &["--backend", "nft"]);
    let mut stdin = block_many(&mut block, stdin, 300);
    lab.guard.sh(
        "cp $(command -v nft) /run/nft; mount -t tmpfs tmpfs /usr/sbin; /run/nft delete table inet psentry",
    );
    block.complaint("nft cannot work");
    say(&mut stdin, Action::Block, SCANNER, Some(600));
    assert_eq!(result(&mut block, SCANNER), OutcomeResult::Failed);
    lab.guard.sh("umount /usr/sbin");
    assert_eq!(result(&mut block, SCANNER), OutcomeResult::Applied);
    let elements =
        || lab.guard.sh("nft list set inet psentry v4_32 2>/dev/null || true").matches(" expires ").count();
    wait_until("all are there again", || elements() == 301);
    block.complaint("put back");
}
