//! What people ask of psentry-block, as an administrator would at night: beside a running one, without one, without
//! rights, and while it hangs.
//!
//! | file | what it shows |
//! |---|---|
//! | `cancel.rs` | `unblock` and `flush` of what waits or fails |
//! | `control.rs` | the control socket: who may ask and who may change, hostile clients, two at one place |
//! | `exec.rs` | what commands of the administrator's blocked, and what ends it |
//! | `panic.rs` | `panic` and `resume` |
//! | `permissions.rs` | without rights |
//! | `status.rs` | `status` and `why` beside one that has not done all yet |
//! | `booted.rs` | the same of the service on a booted systemd |

mod booted;
mod cancel;
mod control;
mod exec;
mod panic;
mod permissions;
mod status;

use std::process::Output;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use psentry_records::{Action, OutcomeBody, OutcomeResult, Record};

use crate::lab::blocker::{outcome, result, say, say_unproven, start};
use crate::lab::{GUARD, Lab, Program, SCANNER, WAIT, bin, wait_until};

/// Another place than the default one, on the guard alone.
const CONTROL: [&str; 2] = ["--control", "/run/psentry/control"];

/// A blocker with its journal in `state`, to be asked there.
fn asked(lab: &Lab, state: &tempfile::TempDir, more: &[&str]) -> (Program, std::process::ChildStdin) {
    let flags = [&CONTROL[..], &["--state", state.path().to_str().unwrap()], more].concat();
    start(lab, &flags)
}

/// Runs a command of psentry-block on the guard, as programs do.
fn run(lab: &Lab, state: &tempfile::TempDir, line: &[&str]) -> Output {
    let flags = [&CONTROL[..], &["--state", state.path().to_str().unwrap()]].concat();
    lab.guard.run(&[&[bin("psentry-block")], line, &["--json"], &flags].concat())
}

/// The outcomes that a command printed.
fn outcomes(output: &Output) -> Vec<OutcomeBody> {
    let text = String::from_utf8_lossy(&output.stdout);
    let body = |line: &str| match Record::parse(line) {
        Ok(Record::Outcome(outcome)) => outcome.body,
        other => panic!("{line}: {other:?}"),
    };
    text.lines().map(body).collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Exit status, and all that it printed.
fn told(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), format!("{}{}", String::from_utf8_lossy(&output.stdout), said(output)))
}

#[test]
fn block_beside_a_running_one_is_confirmed() {
    let (lab, state) = (Lab::new(), tempfile::tempdir().unwrap());
    let _service = lab.service(8088);
    let (mut block, _stdin) = asked(&lab, &state, &["--backend", "nft", "--backend", "route"]);
    block.complaint("may be asked");
    let line = ["block", SCANNER[0], "--for", "10m", "--reason", "looks odd\u{1b}[2J"];
    let output = run(&lab, &state, &line);
    assert!(output.status.success(), "{}", said(&output));
    let applied = outcomes(&output);
    assert_eq!(applied.len(), 2, "{applied:?}");
    assert!(applied.iter().all(|body| body.result == OutcomeResult::Applied), "{applied:?}");
    assert!(lab.scanner.is_shut_out(GUARD[0], 8088), "he is blocked when the command says so");
    // It is in the stream like any other.
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Applied);
    let again = run(&lab, &state, &["block", SCANNER[0], "--for", "5m"]);
    assert!(outcomes(&again).iter().all(|body| body.result == OutcomeResult::Already));
    assert_eq!(again.status.code(), Some(0));
    for own in [GUARD[0], "127.0.0.1", "198.51.100.0/24"] {
        let output = run(&lab, &state, &["block", own]);
        assert_eq!(output.status.code(), Some(1), "{own}");
        assert_eq!(outcomes(&output)[0].result, OutcomeResult::Refused, "{own}");
    }
    for command in [&["list"][..], &["why", SCANNER[0]]] {
        let listed = outcomes(&run(&lab, &state, command));
        assert_eq!(listed.len(), 2, "{listed:?}");
        for body in listed {
            assert_eq!(body.rule.as_deref(), Some("by-hand"));
            assert_eq!(body.reason.as_deref(), Some("looks odd\\u{1b}[2J"));
            assert!(body.since.is_some());
        }
    }
    assert!(run(&lab, &state, &["unblock", SCANNER[0]]).status.success());
    let (code, text) = told(&run(&lab, &state, &["why", SCANNER[0]]));
    assert!(code == Some(1) && text.contains("is not blocked"), "{text}");
    assert!(!lab.scanner.is_shut_out(GUARD[0], 8088));
}

/// What fails is an error, and is tried again like any other.
#[test]
fn what_fails_says_so() {
    let (lab, state) = (Lab::new(), tempfile::tempdir().unwrap());
    let command = format!("test -e {}/works", state.path().display());
    let (mut block, _stdin) =
        asked(&lab, &state, &["--backend", "exec", "--exec", &command, "--exec-undo", "true"]);
    block.complaint("may be asked");
    let output = run(&lab, &state, &["block", SCANNER[0], "--for", "10m"]);
    assert_eq!(output.status.code(), Some(71), "{}", said(&output));
    assert_eq!(outcomes(&output)[0].result, OutcomeResult::Failed);
    let (code, text) = told(&run(&lab, &state, &["status"]));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("\"failing\":1") && text.contains("enforced: exec 0 of 1"), "{text}");
    let found = outcomes(&run(&lab, &state, &["why", SCANNER[0], "--backend", "exec", "--exec", "true"]));
    assert!(
        found.len() == 1 && found[0].error.as_ref().is_some_and(|why| why.contains("exit status")),
        "{found:?}"
    );
    std::fs::write(state.path().join("works"), "").unwrap();
    let applied = |record: &Record| matches!(record, Record::Outcome(outcome) if outcome.body.result == OutcomeResult::Applied);
    block.record("applied", applied);
    let (code, text) = told(&run(&lab, &state, &["status"]));
    assert_eq!(code, Some(0), "{text}");
}

/// A command that takes its time holds up nobody who asks, and the others are not waited for in vain.
#[test]
fn a_slow_backend_is_late_and_the_others_answer() {
    let (lab, state) = (Lab::new(), tempfile::tempdir().unwrap());
    let command = ["--exec", "sleep 60", "--exec-timeout", "1m", "--exec-undo", "true"];
    let (mut block, mut stdin) =
        asked(&lab, &state, &[&["--backend", "nft", "--backend", "exec"][..], &command].concat());
    say(&mut stdin, Action::Block, "203.0.113.7/32", Some(600));
    assert_eq!(outcome(&mut block, "203.0.113.7/32").body.backend.as_deref(), Some("nft"));
    let (code, text) = told(&run(&lab, &state, &["status"]));
    assert!(code == Some(1) && text.contains("\"answers\""), "{text}");
    assert!(
        text.contains("exec 0 of 1, 1 waits for its turn") && text.contains("\"wanted\":1,\"standing\":1"),
        "{text}"
    );
    let why = outcomes(&run(&lab, &state, &["why", SCANNER[0]]));
    assert!(why.iter().any(|body| body.error.as_deref() == Some("it is being blocked")), "{why:?}");
    let output = run(&lab, &state, &["block", "203.0.113.8"]);
    let results: Vec<_> = outcomes(&output).into_iter().map(|o| (o.backend.unwrap(), o.result)).collect();
    let is = [("nft".to_owned(), OutcomeResult::Applied), ("exec".to_owned(), OutcomeResult::Failed)];
    assert_eq!((results, output.status.code()), (is.to_vec(), Some(71)), "{}", said(&output));
}

#[test]
fn without_a_running_one_it_is_done_and_remembered() {
    let state = tempfile::tempdir().unwrap();
    let lab = Lab::new();
    let _service = lab.service(8088);
    let output = run(&lab, &state, &["block", SCANNER[0], "--for", "10m", "--reason", "seen before"]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(outcomes(&output)[0].result, OutcomeResult::Applied);
    assert!(lab.scanner.is_shut_out(GUARD[0], 8088));
    assert_eq!(run(&lab, &state, &["block", GUARD[0]]).status.code(), Some(1));
    let (code, text) = told(&run(&lab, &state, &["status"]));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("no psentry-block answers") && text.contains("\"standing\":1"), "{text}");
    drop(lab);
    // After a reboot it is wanted, and is not there.
    let lab = Lab::new();
    let (code, text) = told(&run(&lab, &state, &["status"]));
    assert!(code == Some(1) && text.contains("enforced: nft 0 of 1"), "{text}");
    let output = run(&lab, &state, &["why", SCANNER[0]]);
    assert_eq!(outcomes(&output)[0].result, OutcomeResult::Failed, "it is not there");
    let (mut block, _stdin) = asked(&lab, &state, &["--backend", "nft"]);
    block.complaint("put back 1 block from before");
    wait_until("it answers", || run(&lab, &state, &["status"]).status.success());
    let listed = outcomes(&run(&lab, &state, &["list"]));
    assert_eq!(listed[0].reason.as_deref(), Some("seen before"));
}

#[test]
fn why_not() {
    let (lab, state) = (Lab::new(), tempfile::tempdir().unwrap());
    let (code, text) = told(&run(&lab, &state, &["why", SCANNER[0]]));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("203.0.113.7 is not blocked; nothing keeps a verdict from blocking it"), "{text}");
    assert!(text.contains("as this command can tell, for no psentry-block answers at /run/psentry/control"));
    let (code, text) = told(&run(&lab, &state, &["why", GUARD[0]]));
    assert!(code == Some(1) && text.contains("an address of this machine"), "{text}");
    assert_eq!(run(&lab, &state, &["why", "nowhere"]).status.code(), Some(64));
    // Without a memory the reason is what the running one knows; a network holds its hosts.
    let (mut block, _stdin) = start(&lab, &[&CONTROL[..], &["--backend", "nft"]].concat());
    block.complaint("may be asked");
    let line = [
        &[bin("psentry-block"), "block", "--json", "203.0.112.0/24", "--reason", "all of them"],
        &CONTROL[..],
    ];
    lab.guard.read(&line.concat());
    let line = [&[bin("psentry-block"), "why", "--json", "203.0.112.9"], &CONTROL[..]].concat();
    let found = outcomes(&lab.guard.run(&line));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].reason.as_deref(), Some("all of them"));
    assert_eq!((found[0].until, found[0].result), (None, OutcomeResult::Already));
    // For people, what ends it.
    let text = lab.guard.read(&[&[bin("psentry-block"), "why", "203.0.112.9"], &CONTROL[..]].concat());
    assert!(text.contains("ended by: psentry-block unblock 203.0.112.0/24"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

/// What is wanted, what is there and what was put back; killed, hanging, ended.
#[test]
fn status_tells_what_is_enforced_however_the_blocker_is() {
    let (lab, state) = (Lab::new(), tempfile::tempdir().unwrap());
    let (mut block, mut stdin) = asked(&lab, &state, &["--backend", "nft"]);
    for scope in ["203.0.113.7/32", "203.0.113.8/32"] {
        say(&mut stdin, Action::Block, scope, Some(600));
        assert_eq!(result(&mut block, scope), OutcomeResult::Applied);
    }
    let status = || told(&run(&lab, &state, &["status"]));
    let (code, text) = status();
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("\"wanted\":2,\"standing\":2,\"failing\":0"), "{text}");
    assert!(text.contains("\"daemon\":\"answers\""), "{text}");
    lab.guard.sh("nft flush ruleset");
    block.complaint("put back within");
    let (code, text) = status();
    assert!(
        code == Some(0) && text.contains("deleted or changed the ruleset of psentry and 2 blocks\""),
        "{text}"
    );
    let table = lab.guard.read(&[&[bin("psentry-block"), "status"], &CONTROL[..]].concat());
    assert!(table.contains(" 2 of 2 ") && !table.contains('{'), "{table}");
    // Stopped: nobody answers, and that is said in time.
    block.signal(Signal::SIGSTOP);
    let began = Instant::now();
    let (code, text) = status();
    println!("{:.1?} beside one that hangs: {text}", began.elapsed());
    assert!(began.elapsed() < WAIT);
    assert!(
        code == Some(1) && text.contains("\"daemon\":\"hangs\"") && text.contains("hangs, and does not"),
        "{text}"
    );
    assert!(text.contains("\"wanted\":2,\"standing\":2"), "{text}");
    let (code, text) = told(&run(&lab, &state, &["block", "203.0.113.9"]));
    assert!(code == Some(71) && text.contains("does not answer"), "{text}");
    block.signal(Signal::SIGCONT);
    // What was asked of it meanwhile is done.
    assert_eq!(result(&mut block, "203.0.113.9/32"), OutcomeResult::Applied);
    wait_until("it answers again", || status().0 == Some(0));
    block.signal(Signal::SIGKILL);
    block.end();
    let (code, text) = status();
    assert!(code == Some(1) && text.contains("\"daemon\":\"dead\"") && text.contains(" is dead"), "{text}");
    lab.guard.sh("nft delete table inet psentry");
    let (code, text) = status();
    assert!(code == Some(1) && text.contains("enforced: nft 0 of 3"), "{text}");
}
