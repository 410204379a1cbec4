//! The rules of iptables, in both variants, and the sets of ipset: changes of the first the kernel reports, the rest is looked for
//! once a second.

use std::fmt::Write;
use std::process::ChildStdin;

use nix::sys::signal::Signal;

use super::*;
use crate::lab::{Iptables, SCANNER as SCANNERS};

/// A machine whose iptables is of one variant.
pub struct Machine {
    pub lab: Lab,
    pub iptables: Iptables,
}

impl Machine {
    pub fn new(variant: &str) -> Self {
        let lab = Lab::new();
        let iptables = Iptables::choose(&lab.guard, variant);
        Machine { lab, iptables }
    }

    pub fn start(&self, flags: &[&str]) -> (Program, ChildStdin) {
        let mut command = self.lab.guard.command(bin("psentry-block"));
        let mut block = Program::start_fed(command.args(flags).env("PATH", &self.iptables.own_path));
        let stdin = block.stdin();
        (block, stdin)
    }

    pub fn sh(&self, script: &str) -> String {
        self.lab.guard.sh(&format!("PATH={}; {script}", self.iptables.path))
    }

    /// How many blocks of both families are there, if they have an effect.
    fn effective(&self, backend: &str) -> usize {
        let list = if backend == "ipset" {
            "for chain in INPUT FORWARD; do
                 iptables -S $chain | grep -q psentry4 && ip6tables -S $chain | grep -q psentry6 || exit
             done; ipset save | grep ^add"
        } else {
            "for chain in INPUT FORWARD; do
                 iptables -S $chain | grep -q PSENTRY && ip6tables -S $chain | grep -q PSENTRY || exit
             done; iptables -S PSENTRY | grep DROP && ip6tables -S PSENTRY | grep DROP"
        };
        self.sh(&format!("({list}) 2>/dev/null || true")).lines().count()
    }
}

/// Of every kind of damage.
const VANDALS: [(&str, &[&str]); 2] = [
    (
        "iptables",
        &[
            "iptables -F; ip6tables -F",
            "iptables -F INPUT",
            "iptables -F FORWARD",
            "iptables -F PSENTRY",
            // The chains go only while psentry-block has not put its rules back into them.
            "until iptables -F && iptables -X; do :; done",
            "iptables -D INPUT $(iptables -nL INPUT --line-numbers | awk '/PSENTRY/{print $1}')",
            "printf '*filter\\n:INPUT ACCEPT [0:0]\\n:FORWARD ACCEPT [0:0]\\n:OUTPUT ACCEPT [0:0]\\nCOMMIT\\n' | iptables-restore",
        ],
    ),
    (
        "ipset",
        &[
            "ipset flush psentry4; ipset flush psentry6",
            "ipset flush psentry4",
            "iptables -F; ip6tables -F",
            "iptables -F FORWARD",
            "until iptables -F && ipset destroy psentry4; do :; done",
        ],
    ),
];

#[test]
fn whatever_others_delete_of_iptables_and_ipset_is_back_within_a_second() {
    for variant in ["nft", "legacy"] {
        for (backend, vandals) in VANDALS {
            let machine = Machine::new(variant);
            let lab = &machine.lab;
            let _service = lab.service(8088);
            let (mut program, mut stdin) = machine.start(&["--backend", backend]);
            block(&mut program, &mut stdin, &[SCANNER, "203.0.113.8/32", "198.18.0.0/24", "2001:db8:7::/64"]);
            let whole = || machine.effective(backend) == 4;
            assert!(whole());
            let other: &[&str] = if variant == "nft" { &["nft flush ruleset"] } else { &[] };
            for vandal in vandals.iter().chain(other) {
                let took = damaged(
                    &program,
                    &lab.guard,
                    &format!("PATH={}; {vandal}", machine.iptables.path),
                    whole,
                );
                println!("{took:>7.0?} {backend} ({variant}): {vandal}");
                assert!(took < SECOND, "{took:?}: {backend} ({variant}): {vandal}");
                program.complaint("put back");
            }
            assert!(SCANNERS.iter().zip(GUARD).all(|(_, guard)| lab.scanner.is_shut_out(guard, 8088)));
            assert!(lab.innocent.reaches(GUARD[0], 8088));
            let (status, output, errors) = program.terminate();
            assert!(status.success(), "{errors:?}");
            let wrong =
                output.iter().find(|line| line.contains("failed") || line.contains("released\",\"error"));
            assert_eq!(wrong, None, "{backend} ({variant})");
        }
    }
}

/// Processes have other numbers in a container than the kernel reports; what is ours is known nevertheless.
#[test]
fn in_a_container_what_psentry_block_does_itself_is_no_drift() {
    let lab = Lab::new();
    let line = ["--pid", "--fork", "--kill-child", bin("psentry-block"), "--backend", "iptables"];
    let mut program = Program::start_fed(lab.guard.command("unshare").args(line));
    let mut stdin = program.stdin();
    block(&mut program, &mut stdin, &[SCANNER, "203.0.113.8/32", "2001:db8:7::/64"]);
    say(&mut stdin, Action::Unblock, "203.0.113.8/32", None);
    assert_eq!(result(&mut program, "203.0.113.8/32"), OutcomeResult::Released);
    lab.guard.sh("iptables -D PSENTRY 1");
    program.complaint("put back");
    put_back(&mut program, SCANNER);
    // A signal would only reach whoever made the container.
    program.signal(Signal::SIGKILL);
    let (_, _, errors) = program.end();
    let again: Vec<_> = errors.iter().filter(|line| line.contains("put back")).collect();
    assert!(again.is_empty(), "{errors:?}");
}

/// Ten times as many blocks, and a set that is loaded as it was saved long ago.
#[test]
fn a_thousand_on_ipset_are_back_and_no_old_times_with_them() {
    let machine = Machine::new("nft");
    let (mut program, stdin) = machine.start(&["--backend", "ipset"]);
    let _stdin = block_many(&mut program, stdin, 1000);
    let guard = &machine.lab.guard;
    let count = || guard.sh("ipset save psentry4 | grep -c ^add || true").trim().parse::<usize>().unwrap();
    let took = damaged(&program, guard, "ipset flush psentry4", || count() == 1000);
    println!("{took:>7.0?} 1000 entries");
    assert!(took < SECOND, "{took:?}");
    program.complaint("put back");
    let mut saved = String::new();
    for n in 0..10 {
        writeln!(
            saved,
            "add psentry4 198.18.0.{n} timeout 7200 comment \"psentry until 2026-11-22T00:00:00Z\""
        )
        .unwrap();
    }
    let old = format!("ipset flush psentry4; echo '{}' | ipset restore", saved.trim());
    let longest = "ipset save psentry4 | sed 's/.*timeout \\([0-9]*\\).*/\\1/' | sort -n | tail -1";
    let took = damaged(&program, guard, &old, || count() == 1000);
    println!("{took:>7.0?} a set that was saved long ago");
    assert!(took < SECOND, "{took:?}");
    wait_until("none of them lasts longer", || {
        guard.sh(longest).trim().parse::<u64>().is_ok_and(|longest| longest <= 600)
    });
    assert_eq!(
        guard.sh("ipset save psentry4 | grep -c 2026-11-22 || true").trim(),
        "0",
        "nor has an old note"
    );
}

/// Somebody who deletes rules again and again is told of, and not fought, there as well.
#[test]
fn a_fighter_for_iptables_is_not_fought() {
    let machine = Machine::new("nft");
    let (mut program, mut stdin) = machine.start(&["--backend", "iptables"]);
    block(&mut program, &mut stdin, &[SCANNER, "203.0.113.8/32"]);
    machine.sh("for n in $(seq 60); do iptables -F; sleep 0.1; done");
    let said = program.complaint("again and again");
    assert!(said.contains("every 10 s"), "{said}");
    wait_until("it is back", || machine.sh("iptables -S PSENTRY").matches("DROP").count() == 2);
}
