//! Whom an administrator released no reboot blocks again, whether psentry-block ran, was dead, or had nothing put back yet.

use super::*;

fn unblock(lab: &Lab, scope: &str, flags: &[&str]) -> String {
    lab.guard.read(&[&[bin("psentry-block"), "unblock", "--json", scope], flags].concat())
}

#[test]
fn who_was_released_is_not_blocked_by_a_reboot() {
    for name in ["nft", "ipset", "iptables", "route", "hosts-deny"] {
        let state = State::new();
        let flags = state.flags(&["--backend", name, "--hosts-deny", "/run/hosts.deny"]);
        let scopes: Vec<String> = (6..11).map(|n| format!("203.0.113.{n}/32")).collect();
        let lab = Lab::new();
        let (mut block, mut stdin) = start(&lab, &flags);
        for scope in &scopes {
            say(&mut stdin, Action::Block, scope, Some(600));
            assert_eq!(result(&mut block, scope), OutcomeResult::Applied);
        }
        say(&mut stdin, Action::Unblock, &scopes[0], None);
        assert_eq!(result(&mut block, &scopes[0]), OutcomeResult::Released);
        // By a command beside the one that runs, and by one where none runs.
        assert!(unblock(&lab, &scopes[1], &flags).contains("\"released\""), "{name}");
        kill(&mut block);
        assert!(unblock(&lab, &scopes[2], &flags).contains("\"released\""), "{name}");
        drop(lab);
        // Nothing is there any more, and only the journal knows of the last two.
        let lab = Lab::new();
        assert!(unblock(&lab, &scopes[3], &flags).contains("\"released\""), "{name}");
        assert!(unblock(&lab, &scopes[3], &flags).contains("\"already\""), "{name}");
        assert!(listed(&lab, &flags).is_empty(), "{name}: what is not there is not listed");
        let why =
            lab.guard.read(&[&[bin("psentry-block"), "why", "--json", &scopes[4]], &flags[..]].concat());
        assert!(why.contains("it is wanted, and is not there"), "{name}: {why}");
        let (mut block, _stdin) = start(&lab, &flags);
        assert_eq!(restored(&mut block), 1, "{name}");
        let scopes_of =
            |listed: Vec<(String, String, _)>| -> Vec<String> { listed.into_iter().map(|e| e.0).collect() };
        assert_eq!(scopes_of(listed(&lab, &flags)), scopes[4..], "{name}");
        let flushed = lab.guard.read(&[&[bin("psentry-block"), "flush", "--json"], &flags[..]].concat());
        assert!(flushed.contains(&scopes[4]), "{name}: {flushed}");
        kill(&mut block);
        let lab = Lab::new();
        let (mut block, stdin) = start(&lab, &flags);
        drop(stdin);
        let (status, output, errors) = block.end();
        assert!(status.success() && output.is_empty(), "{name}: {output:?} {errors:?}");
        assert_eq!(complaints(&errors), [""; 0], "{name}");
    }
}

/// A command knows nothing of the flags of the psentry-block that will run, and so gives up nothing that is remembered.
#[test]
fn a_command_keeps_what_is_remembered_beyond_its_own_limit() {
    let (state, lab) = (State::new(), Lab::new());
    let flags = state.flags(&["--backend", "nft"]);
    let (mut block, stdin) = start(&lab, &flags);
    let _stdin = block_many(&mut block, stdin, 20);
    kill(&mut block);
    let few = [&flags[..], &["--max-blocks", "5"]].concat();
    assert!(unblock(&lab, "198.18.0.7", &few).contains("\"released\""));
    let lab = Lab::new();
    let (mut block, _stdin) = start(&lab, &flags);
    assert_eq!(restored(&mut block), 19);
}

/// The journal of a service without `--state` is found by commands, also where the service has stopped and left a link to
/// nowhere, as systemd has it with DynamicUser=.
#[test]
fn commands_find_the_journal_in_the_runtime_directory() {
    let lab = Lab::new();
    lab.guard.sh("mkdir /run/private; ln -s private/psentry-block /run/psentry-block");
    lab.guard.read(&[bin("psentry-block"), "block", "--json", "203.0.113.6", "--backend", "nft"]);
    lab.guard.sh("test -f /run/private/psentry-block/journal.jsonl && test -L /run/psentry-block");
    let mut service = lab.guard.command("env");
    service.args([
        "RUNTIME_DIRECTORY=/run/psentry-block",
        bin("psentry-block"),
        "--backend",
        "nft",
        "--backend",
        "exec",
    ]);
    let mut block = Program::start_fed(service.args(["--exec", "true", "--exec-undo", "true"]));
    assert_eq!(restored(&mut block), 1);
    say(&mut block.stdin(), Action::Block, "203.0.113.7", Some(600));
    for _ in 0..2 {
        assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Applied);
    }
    let list = || -> Vec<(String, String)> {
        listed(&lab, &[]).into_iter().map(|(scope, backend, _)| (scope, backend)).collect()
    };
    let is = |scope: &str, backend: &str| (scope.to_owned(), backend.to_owned());
    let wanted = [
        is("203.0.113.6/32", "exec"),
        is("203.0.113.6/32", "nft"),
        is("203.0.113.7/32", "exec"),
        is("203.0.113.7/32", "nft"),
    ];
    wait_until("the command has run for both", || list() == wanted);
    kill(&mut block);
    // Where none runs, too: what is in nft, and what only the journal knows.
    assert_eq!(list(), wanted);
}

/// With and without `--state`, though both have been used on this machine: a command without it goes on in the journal of
/// whichever was used last.
#[test]
fn a_command_after_a_crash_releases_in_the_journal_of_the_one_that_crashed() {
    let (lab, scope) = (Lab::new(), "203.0.113.7/32");
    lab.guard.sh("mkdir -p /var/lib/psentry-block");
    let of_service = &["--backend", "nft", "--state", "/var/lib/psentry-block"][..];
    let without = &["--backend", "nft"][..];
    for flags in [of_service, without, of_service, without] {
        let (mut block, mut stdin) = start(&lab, flags);
        say(&mut stdin, Action::Block, scope, Some(600));
        assert_eq!(result(&mut block, scope), OutcomeResult::Applied, "{flags:?}");
        kill(&mut block);
        assert!(unblock(&lab, scope, &[]).contains("\"released\""), "{flags:?}");
        let (mut block, _stdin) = start(&lab, flags);
        block.complaint("ready");
        assert!(listed(&lab, &[]).is_empty(), "{flags:?}");
        kill(&mut block);
    }
}
