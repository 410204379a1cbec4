//! What somebody saved and loads again later brings nobody back who was released, or whose time is over, nor makes a block longer:
//! while psentry-block runs, and when it starts.

use std::collections::BTreeSet;

use super::*;
use crate::lab::blocker::there;

/// For each backend, how it is saved and loaded. Of those whose kernel ends blocks, a week is added to each timeout.
const COMMANDS: [(&str, &str, &str); 5] = [
    (
        "nft",
        "(echo flush ruleset; nft list ruleset) | sed 's/timeout [^ ]* expires [^ ]*/timeout 8d expires 7d/' > /run/saved",
        "nft -f /run/saved",
    ),
    (
        "ipset",
        "ipset save | grep ^add | sed 's/timeout [0-9]* comment/timeout 604800 comment/' > /run/saved",
        "ipset -exist restore < /run/saved",
    ),
    ("iptables", "iptables-save > /run/saved", "iptables-restore < /run/saved"),
    ("route", "ip route save proto 158 > /run/saved", "ip route restore < /run/saved || true"),
    ("hosts-deny", "cp /run/hosts.deny /run/saved", "cp /run/saved /run/hosts.deny"),
];

const RELEASED: &str = "203.0.113.8/32";
const ENDED: &str = "203.0.113.9/32";

fn set(scopes: &[&str]) -> BTreeSet<String> {
    scopes.iter().map(|scope| (*scope).to_owned()).collect()
}

#[test]
fn what_was_saved_and_is_loaded_later_brings_nobody_back() {
    for (backend, save, load) in COMMANDS {
        let (lab, state) = (Lab::new(), tempfile::tempdir().unwrap());
        let flags = [
            "--backend",
            backend,
            "--hosts-deny",
            "/run/hosts.deny",
            "--state",
            state.path().to_str().unwrap(),
        ];
        let there = || there(&lab, backend);
        let (mut program, mut stdin) = start(&lab, &flags);
        block(&mut program, &mut stdin, &[SCANNER, RELEASED]);
        say(&mut stdin, Action::Block, ENDED, Some(2));
        assert_eq!(result(&mut program, ENDED), OutcomeResult::Applied);
        lab.guard.sh(save);
        say(&mut stdin, Action::Unblock, RELEASED, None);
        assert_eq!(result(&mut program, RELEASED), OutcomeResult::Released);
        assert_eq!(result(&mut program, ENDED), OutcomeResult::Expired);
        wait_until("it has ended", || there() == set(&[SCANNER]));

        // While it runs.
        lab.guard.sh(load);
        let said = program.complaint(RELEASED);
        assert!(said.contains("added"), "{backend}: {said}");
        wait_until("nobody else is blocked", || there() == set(&[SCANNER]));
        println!("{said}");

        // At a start.
        program.signal(nix::sys::signal::Signal::SIGKILL);
        drop((program.end(), stdin));
        lab.guard.sh(load);
        assert_eq!(there().len(), 3, "{backend}");
        let (mut program, stdin) = start(&lab, &flags);
        program.complaint(": ready: ");
        assert_eq!(there(), set(&[SCANNER]), "{backend}");
        let is_right = match backend {
            "nft" => left(&lab.guard, "203.0.113.7") <= 600,
            "ipset" => lab.guard.ok(&[
                "sh",
                "-c",
                "ipset save psentry4 | grep -q ' 203.0.113.7 timeout [0-9][0-9][0-9] '",
            ]),
            _ => true,
        };
        assert!(is_right, "{backend}: it ends as it was to");

        // When nobody knows any more what was wanted, what its own note says to be over is.
        program.signal(nix::sys::signal::Signal::SIGKILL);
        drop((program.end(), stdin));
        std::fs::remove_file(state.path().join("journal.jsonl")).unwrap();
        lab.guard.sh(load);
        let (mut program, _stdin) = start(&lab, &flags);
        program.complaint(": ready: ");
        assert_eq!(there(), set(&[SCANNER, RELEASED]), "{backend}");
    }
}

/// A flush is remembered, although nothing is wanted any more.
#[test]
fn what_was_saved_before_a_flush_brings_nobody_back() {
    let (lab, state) = (Lab::new(), tempfile::tempdir().unwrap());
    let (_, save, load) = COMMANDS[0];
    let flags = ["--backend", "nft", "--state", state.path().to_str().unwrap()];
    let (mut program, mut stdin) = start(&lab, &flags);
    block(&mut program, &mut stdin, &[SCANNER]);
    lab.guard.sh(save);
    lab.guard.sh(&format!("{} flush", bin("psentry-block")));
    assert_eq!(result(&mut program, SCANNER), OutcomeResult::Released);
    lab.guard.sh(load);
    wait_until("it is deleted again", || count(&lab.guard, "v4_32") == 0);
    assert!(program.terminate().0.success());
    lab.guard.sh(load);
    let (mut program, _stdin) = start(&lab, &flags);
    program.complaint(": ready: ");
    assert_eq!(count(&lab.guard, "v4_32"), 0);
}
