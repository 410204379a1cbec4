//! What is told to people and programs, with rights and without.

use std::io::Write;
use std::process::Stdio;

use psentry_records::{Action, OutcomeResult, Record};

use crate::lab::blocker::{result, say, start};
use crate::lab::{Lab, Notified, Program, bin};

/// What it says of itself on standard error, and systemd's watchdog, also while the reader of its outcomes does not read.
#[test]
fn it_says_that_it_is_ready_and_alive_and_what_it_did() {
    let (lab, systemd) = (Lab::new(), Notified::new());
    let mut command = lab.guard.command(bin("psentry-block"));
    command.args(["--backend", "nft", "--pass"]).env("NOTIFY_SOCKET", &systemd.path);
    command.env("WATCHDOG_USEC", "100000").stdin(Stdio::piped());
    let mut block = Program::start_piped(&mut command);
    systemd.hears("READY=1");
    block.complaint("psentry-block: ready: backend nft");
    systemd.hears("WATCHDOG=1");
    let mut stdin = block.stdin();
    say(&mut stdin, Action::Block, "203.0.113.7", Some(600));
    // More than a pipe holds, and as long lines as there may be.
    let line =
        format!(r#"{{"timestamp":"2026-11-22T15:04:05Z","event_type":"alert","x":"{}"}}"#, "x".repeat(4000));
    stdin.write_all((line + "\n").repeat(25).as_bytes()).unwrap();
    // Its main thread may wait for the thread that waits for the reader.
    block.waits();
    systemd.forget();
    for _ in 0..5 {
        systemd.hears("WATCHDOG=1");
    }
    block.read_output();
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Applied);
    drop(stdin);
    let (status, _, errors) = block.end();
    assert!(status.success(), "{errors:?}");
    assert_eq!(errors.last().unwrap(), "psentry-block: ended: 1 verdict, 1 applied");
}

/// A backend that cannot be read may hold anything: that is no success.
#[test]
fn what_cannot_be_read_is_trouble() {
    let lab = Lab::new();
    lab.guard
        .sh("mkdir /run/held; printf '#!/bin/sh\\necho the lock is held >&2; exit 4\\n' > /run/held/iptables
         chmod +x /run/held/iptables");
    for command in [&["list"][..], &["unblock", "203.0.113.7"], &["flush"]] {
        let path = format!("PATH=/run/held:{}", std::env::var("PATH").unwrap());
        let line = [&["env", &path, bin("psentry-block")], command].concat();
        let output = lab.guard.run(&line);
        assert_eq!(output.status.code(), Some(71), "{command:?}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("the lock is held"), "{output:?}");
        assert!(!String::from_utf8_lossy(&output.stdout).contains("already"), "{output:?}");
    }
}

#[test]
fn without_rights_or_programs_it_says_what_to_do() {
    let lab = Lab::new();
    let mut block = Program::start(lab.guard.command("unshare").args([
        "--user",
        bin("psentry-block"),
        "--backend",
        "nft",
    ]));
    let (status, _, errors) = block.end();
    assert_eq!(status.code(), Some(77), "{errors:?}");
    assert!(errors[0].contains("CAP_NET_ADMIN"), "{errors:?}");
    lab.guard.sh("mount -t tmpfs tmpfs /usr/sbin");
    for name in ["nft", "iptables", "ipset"] {
        let mut block = Program::start(lab.guard.command(bin("psentry-block")).args(["--backend", name]));
        let (status, _, errors) = block.end();
        assert_eq!(status.code(), Some(69), "{name}: {errors:?}");
        assert!(errors[0].contains(name), "{errors:?}");
    }
}

/// `list` is a table for people, also in a pipe, and JSON for programs who ask for it; both are sorted.
#[test]
fn list_speaks_to_people_and_to_programs() {
    let lab = Lab::new();
    let (mut block, mut stdin) = start(&lab, &["--backend", "nft"]);
    for (scope, duration) in
        [("203.0.113.9/32", Some(600)), ("203.0.113.7/32", None), ("2001:db8:7::/64", Some(60))]
    {
        say(&mut stdin, Action::Block, scope, duration);
        assert_eq!(result(&mut block, scope), OutcomeResult::Applied);
    }
    let list = lab.guard.read(&[bin("psentry-block"), "list", "--json"]);
    let scopes: Vec<String> = list
        .lines()
        .map(|line| match Record::parse(line) {
            Ok(Record::Outcome(outcome)) => outcome.body.scope.to_string(),
            other => panic!("{line}: {other:?}"),
        })
        .collect();
    assert_eq!(scopes, ["203.0.113.7/32", "203.0.113.9/32", "2001:db8:7::/64"]);
    let table = lab.guard.read(&[bin("psentry-block"), "list"]);
    assert!(table.contains("203.0.113.7") && !table.contains('{'), "{table}");
}
