//! A backend that hangs delays neither the others, nor the ends of blocks, nor who asks on the control socket. What it was given is done
//! once it goes on.

use super::*;
use crate::lab::blocker::there;
use crate::lab::{Host, Iptables};

/// One way to hang.
struct Hang {
    /// The one that hangs, and the other one.
    backends: [&'static str; 2],
    flags: &'static [&'static str],
    /// Directories of programs that come first.
    path: &'static str,
    /// Makes those directories, before the start.
    prepare: fn(&Host),
    /// Lines of shell to have it hang from the next operation on, and to have it go on.
    hang: &'static str,
    go_on: &'static str,
}

/// Wakes whatever is stopped in here.
const WAKE: &str = "rm -f /run/hang; for process in /proc/[0-9]*; do
    if test \"$(readlink $process/ns/net)\" = \"$(readlink /proc/self/ns/net)\" && grep -q '^State:.T' $process/status; then
    kill -CONT ${process#/proc/}; fi; done";

/// Whether a program is stopped in here.
const STOPPED: &str = "for process in /proc/[0-9]*; do
    if test \"$(readlink $process/ns/net)\" = \"$(readlink /proc/self/ns/net)\" && grep -q '^State:.T' $process/status; then
    exit 0; fi; done; exit 1";

/// What came of a scope on a backend.
fn told(block: &mut Program, scope: &str, backend: &str, result: OutcomeResult) {
    block.record(&format!("{scope} {result:?} on {backend}"), |record| match record {
        Record::Outcome(Outcome { body, .. }) => {
            body.scope.to_string() == scope
                && body.backend.as_deref() == Some(backend)
                && body.result == result
        }
        _ => false,
    });
}

/// Starts psentry-block with these backends, one of which is going to hang.
fn start_hanging(lab: &Lab, hang: &Hang, backends: &[&str]) -> Program {
    (hang.prepare)(&lab.guard);
    let path = format!("{}:{}", hang.path, std::env::var("PATH").unwrap());
    let mut command = lab.guard.command(bin("psentry-block"));
    command.args(backends.iter().flat_map(|name| ["--backend", name])).args(hang.flags).env("PATH", path);
    Program::start_fed(&mut command)
}

/// A program that stops itself while `/run/hang` exists, as a debugger or an exhausted machine would stop it.
const PROGRAM: Hang = Hang {
    backends: ["iptables", "nft"],
    flags: &[],
    path: "/run/stopped",
    prepare: |host| {
        host.sh(
            "mkdir /run/stopped; for name in iptables-restore ip6tables-restore; do
             printf '#!/bin/sh\ntest ! -e /run/hang || kill -STOP $$\nexec %s \"$@\"\n' $(command -v $name) > /run/stopped/$name
             chmod +x /run/stopped/$name; done",
        );
    },
    hang: "touch /run/hang",
    go_on: WAKE,
};

/// Somebody holds the lock of the legacy iptables.
const LOCK: Hang = Hang {
    backends: ["iptables", "nft"],
    flags: &[],
    path: "/run/legacy",
    prepare: |host| _ = Iptables::choose(host, "legacy"),
    hang: "mkfifo /run/hold; (flock /run/xtables.lock cat /run/hold) > /dev/null 2>&1 & \
           until ! flock -n /run/xtables.lock true; do sleep 0.02; done",
    go_on: "echo > /run/hold",
};

/// A command that is stopped, and has two minutes.
const COMMAND: Hang = Hang {
    backends: ["exec", "nft"],
    flags: &[
        "--exec",
        "sh -c 'test ! -e /run/hang || kill -STOP $$; touch /run/exec-$0' {addr}",
        "--exec-undo",
        "sh -c 'rm -f /run/exec-$0' {addr}",
        "--exec-timeout",
        "2m",
        "--exec-jobs",
        "1",
    ],
    path: "/run",
    prepare: |_| {},
    hang: "touch /run/hang",
    go_on: WAKE,
};

#[test]
fn a_program_that_is_stopped_delays_nobody_else() {
    delays_nobody_else(&PROGRAM, ["nft", "iptables"]);
}

/// Backends are applied in their order: one that is first delays the next one by its patience at most.
#[test]
fn a_program_that_is_stopped_delays_no_backend_after_it_for_long() {
    delays_nobody_else(&PROGRAM, ["iptables", "nft"]);
}

#[test]
fn a_lock_of_xtables_that_is_held_delays_nobody_else() {
    delays_nobody_else(&LOCK, ["iptables", "nft"]);
}

/// A backend after a command waits for as long as the command has.
#[test]
fn a_command_that_is_stopped_delays_nobody_else() {
    delays_nobody_else(&COMMAND, ["nft", "exec"]);
}

/// A command has its time, and then the next backend has its turn.
#[test]
fn a_command_that_hangs_delays_the_backends_after_it_for_as_long_as_it_has() {
    let lab = Lab::new();
    let flags =
        ["--backend", "exec", "--backend", "nft", "--exec", "sh -c 'kill -STOP $$'", "--exec-timeout", "1s"];
    let (mut block, mut stdin) = start(&lab, &flags);
    say(&mut stdin, Action::Block, SCANNER, Some(600));
    let mut both = [outcome(&mut block, SCANNER).body, outcome(&mut block, SCANNER).body];
    both.sort_by(|a, b| a.backend.cmp(&b.backend));
    assert_eq!(both.map(|body| body.result), [OutcomeResult::Failed, OutcomeResult::Applied]);
}

fn delays_nobody_else(hang: &Hang, order: [&str; 2]) {
    let [hanging, other] = hang.backends;
    let lab = Lab::new();
    let mut block = start_hanging(&lab, hang, &order);
    let mut stdin = block.stdin();
    let (both, soon, late) = ("203.0.113.6/32", "203.0.113.7/32", "203.0.113.8/32");
    say(&mut stdin, Action::Block, both, Some(3600));
    told(&mut block, both, order[1], OutcomeResult::Applied);
    lab.guard.sh(hang.hang);

    // Another block, its end, and whoever asks.
    say(&mut stdin, Action::Block, late, Some(3600));
    say(&mut stdin, Action::Block, soon, Some(6));
    told(&mut block, soon, other, OutcomeResult::Applied);
    assert!(there(&lab, "nft").contains(late) && there(&lab, "nft").contains(soon));
    let status = lab.guard.run(&[bin("psentry-block"), "status", "--json"]);
    let said = String::from_utf8_lossy(&status.stderr);
    assert_eq!(status.status.code(), Some(1), "{said}");
    assert!(said.contains(hanging) && !said.contains("psentry-block hangs"), "{said}");
    // What a command asks for is done on the other one, and the command says who is late.
    let unblock = lab.guard.run(&[bin("psentry-block"), "unblock", "--json", both]);
    let said = String::from_utf8_lossy(&unblock.stderr);
    assert!(
        !unblock.status.success() && said.contains(&format!("{hanging} has not answered within")),
        "{said}"
    );
    assert!(!there(&lab, "nft").contains(both));
    told(&mut block, soon, other, OutcomeResult::Expired);
    wait_until("it has ended", || !there(&lab, "nft").contains(soon));
    // What others delete is put back.
    lab.guard.sh("nft flush ruleset");
    wait_until("it is put back", || there(&lab, "nft").contains(late));

    // It goes on, and has all that is wanted.
    lab.guard.sh(hang.go_on);
    let is_right = || {
        let is_blocked = |scope: &str| match hanging {
            "exec" => lab.guard.ok(&["test", "-e", &format!("/run/exec-{}", scope.trim_end_matches("/32"))]),
            _ => lab.guard.sh(&format!("PATH={}:$PATH; iptables -w -S", hang.path)).contains(scope),
        };
        is_blocked(late) && !is_blocked(soon) && !is_blocked(both)
    };
    wait_until("it has what is wanted", is_right);
    wait_until("all is enforced", || lab.guard.ok(&[bin("psentry-block"), "status", "--json"]));
    let (status, _, errors) = block.terminate();
    assert!(status.success(), "{errors:?}");
}

/// A flush waits for a backend that hangs for as long as any command, and says that it may still come.
#[test]
fn a_flush_names_the_backend_that_hangs() {
    let lab = Lab::new();
    let hang = &PROGRAM;
    let mut block = start_hanging(&lab, hang, &["nft", "iptables"]);
    let mut stdin = block.stdin();
    block.complaint(": ready: ");
    lab.guard.sh(hang.hang);
    say(&mut stdin, Action::Block, SCANNER, Some(600));
    assert_eq!(result(&mut block, SCANNER), OutcomeResult::Applied);
    let flush = lab.guard.run(&[bin("psentry-block"), "flush", "--json"]);
    let said = String::from_utf8_lossy(&flush.stderr);
    let late = "iptables has not answered within 10 s, and may still do it";
    assert!(flush.status.code() == Some(71) && said.contains(late) && !said.contains("nft"), "{said}");
    assert!(!lab.guard.sh("nft list tables").contains("inet psentry"));
    // And so it does.
    lab.guard.sh(hang.go_on);
    wait_until("iptables has nothing", || {
        !lab.guard.sh(&format!("PATH={}:$PATH; iptables -w -S", hang.path)).contains("PSENTRY")
    });
}

/// Who is blocked anew while everything is being deleted is blocked, and whoever asked for it hears of that.
#[test]
fn a_block_during_a_flush_is_not_taken_for_what_the_flush_deletes() {
    let lab = Lab::new();
    let hang = &PROGRAM;
    let mut block = start_hanging(&lab, hang, &["iptables"]);
    let mut stdin = block.stdin();
    say(&mut stdin, Action::Block, SCANNER, Some(600));
    assert_eq!(result(&mut block, SCANNER), OutcomeResult::Applied);
    lab.guard.sh(hang.hang);
    let mut flush = Program::start(lab.guard.command(bin("psentry-block")).args(["flush", "--json"]));
    wait_until("the flush is under way", || lab.guard.ok(&["sh", "-c", STOPPED]));
    say(&mut stdin, Action::Block, SCANNER, Some(300));
    // When this one is answered, that one has been read.
    say(&mut stdin, Action::Block, "127.0.0.1", Some(300));
    assert_eq!(result(&mut block, "127.0.0.1/32"), OutcomeResult::Refused);
    lab.guard.sh(hang.go_on);
    assert_eq!(result(&mut block, SCANNER), OutcomeResult::Applied);
    assert!(flush.end().0.success());
    assert!(there(&lab, "iptables").contains(SCANNER));
}

/// One that hangs does not keep psentry-block from stopping.
#[test]
fn a_stop_waits_for_no_backend_that_hangs() {
    let lab = Lab::new();
    let hang = &PROGRAM;
    let mut block = start_hanging(&lab, hang, &["nft", "iptables"]);
    let mut stdin = block.stdin();
    block.complaint(": ready: ");
    lab.guard.sh(hang.hang);
    say(&mut stdin, Action::Block, SCANNER, Some(600));
    assert_eq!(result(&mut block, SCANNER), OutcomeResult::Applied);
    let stopping = std::thread::spawn(move || block.terminate());
    wait_until("it has stopped", || stopping.is_finished());
    assert!(there(&lab, "nft").contains(SCANNER), "what the kernel ends stays");
    lab.guard.sh(hang.go_on);
}
