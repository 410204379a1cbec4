//! Blocks by a command of the administrator's: what it is told, and what becomes of one that fails or hangs.

use nix::sys::signal::Signal;
use psentry_records::{Action, Common, OutcomeResult, Record, Timestamp, Verdict, VerdictBody, Writer};

use crate::lab::blocker::{outcome, result, say, start};
use crate::lab::{Lab, bin};

/// A command that blocks and then fails is undone at the end of its block.
#[test]
fn what_a_failed_command_may_have_blocked_is_undone() {
    let lab = Lab::new();
    let flags = [
        "--backend",
        "exec",
        "--exec",
        "sh -c 'touch /run/$0; exit 1' {addr}",
        "--exec-undo",
        "rm /run/{addr}",
    ];
    let (mut block, mut stdin) = start(&lab, &flags);
    say(&mut stdin, Action::Block, "203.0.113.7", Some(3));
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Failed);
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Expired);
    assert!(!lab.guard.sh("ls /run").contains("203.0.113.7"));
    say(&mut stdin, Action::Block, "203.0.113.8", None);
    assert_eq!(result(&mut block, "203.0.113.8/32"), OutcomeResult::Failed);
    block.signal(Signal::SIGKILL);
    block.end();
    let unblock = [&[bin("psentry-block"), "unblock", "203.0.113.8"], &flags[..]].concat();
    assert!(lab.guard.read(&unblock).contains("released"));
    assert!(!lab.guard.sh("ls /run").contains("203.0.113.8"));
}

#[test]
fn what_failed_says_so_and_is_tried_again() {
    let lab = Lab::new();
    // Fails until /run/willing is there.
    let (mut block, mut stdin) = start(
        &lab,
        &["--backend", "exec", "--exec", "mv /run/willing /run/{addr}", "--exec-undo", "rm /run/{addr}"],
    );
    say(&mut stdin, Action::Block, "203.0.113.7", Some(600));
    let failed = outcome(&mut block, "203.0.113.7/32");
    assert_eq!(failed.body.result, OutcomeResult::Failed);
    assert!(failed.body.error.as_ref().is_some_and(|error| error.contains("/run/willing")), "{failed:?}");
    let list = lab.guard.read(&[bin("psentry-block"), "list", "--backend", "exec"]);
    assert_eq!(list, "", "what failed is never remembered as done");
    lab.guard.sh("touch /run/willing");
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Applied);
}

#[test]
fn a_command_that_hangs_is_ended_and_holds_up_no_other_backend() {
    let lab = Lab::new();
    // Nothing else on this machine sleeps for so long.
    let sleep = format!("sleep 1000{}", std::process::id());
    let (mut block, mut stdin) = start(
        &lab,
        &[
            "--backend",
            "exec",
            "--backend",
            "nft",
            "--exec",
            &format!("sh -c '{sleep}; echo {{addr}}'"),
            "--exec-timeout",
            "2s",
        ],
    );
    say(&mut stdin, Action::Block, "203.0.113.7", Some(600));
    let first = outcome(&mut block, "203.0.113.7/32");
    assert_eq!((first.body.backend.as_deref(), first.body.result), (Some("nft"), OutcomeResult::Applied));
    let second = outcome(&mut block, "203.0.113.7/32");
    assert_eq!((second.body.backend.as_deref(), second.body.result), (Some("exec"), OutcomeResult::Failed));
    // It is tried again until it is asked to stop, and then nothing of it is left.
    block.terminate();
    let left = std::fs::read_dir("/proc").unwrap().any(|process| {
        let line = std::fs::read(process.unwrap().path().join("cmdline")).unwrap_or_default();
        line == (sleep.replace(' ', "\0") + "\0").into_bytes()
    });
    assert!(!left, "it is killed with its children");
}

/// No shell sees the arguments, and a placeholder is never split again.
#[test]
fn a_command_gets_its_arguments_as_they_are() {
    let lab = Lab::new();
    lab.guard.sh("printf '#!/bin/sh\\nprintf \"%%s|\" \"$@\" > /run/arguments\\nenv | grep ^PSENTRY_ > /run/environment\\n' > /run/tell; chmod +x /run/tell");
    let (mut block, mut stdin) = start(
        &lab,
        &["--backend", "exec", "--exec", "/run/tell '{scope} $(id)' \"a b\" {port}/{proto} {duration} ;"],
    );
    let mut verdict = Verdict {
        common: Common::at(Timestamp::now()),
        body: VerdictBody::new(Action::Block, "203.0.113.7".parse().unwrap()),
    };
    verdict.common.dest_port = Some(23);
    verdict.common.proto = Some(psentry_records::Proto::Tcp);
    verdict.body.duration = Some(600);
    Writer::new(&mut stdin).write(&Record::Verdict(verdict)).unwrap();
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Applied);
    let arguments = lab.guard.sh("cat /run/arguments");
    let parts: Vec<&str> = arguments.split('|').collect();
    assert_eq!(parts[..2], ["203.0.113.7/32 $(id)", "a b"], "{arguments}");
    assert_eq!(parts[2].to_ascii_lowercase(), "23/tcp");
    assert!(parts[3].parse::<u64>().is_ok_and(|left| (590..=600).contains(&left)), "{arguments}");
    assert_eq!(parts[4], ";");
    assert!(lab.guard.sh("cat /run/environment").contains("PSENTRY_SCOPE=203.0.113.7/32"));
}
