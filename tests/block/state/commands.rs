//! What is remembered, and commands: `unblock`, `flush` and `list` beside a running psentry-block or without one, and the
//! command of the backend exec.

use super::*;

/// Whom an administrator let in, no reboot shuts out again: whether psentry-block ran, heard of it, or was dead.
#[test]
fn who_was_let_in_is_not_shut_out_by_a_reboot() {
    for name in ["nft", "ipset", "route"] {
        let state = State::new();
        let flags = state.flags(&["--backend", name]);
        let scopes =
            ["203.0.113.6/32", "203.0.113.7/32", "203.0.113.8/32", "203.0.113.9/32", "203.0.113.10/32"];
        let unblock = |lab: &Lab, scope: &str| {
            let line = [&[bin("psentry-block"), "unblock", scope], &flags[..]].concat();
            assert!(lab.guard.read(&line).contains("released"), "{name}");
        };
        let lab = Lab::new();
        let (mut block, mut stdin) = start(&lab, &flags);
        for scope in scopes {
            say(&mut stdin, Action::Block, scope, Some(600));
            assert_eq!(result(&mut block, scope), OutcomeResult::Applied);
        }
        say(&mut stdin, Action::Unblock, scopes[0], None);
        assert_eq!(result(&mut block, scopes[0]), OutcomeResult::Released);
        unblock(&lab, scopes[1]);
        kill(&mut block);
        unblock(&lab, scopes[2]);
        drop(lab);
        // Nothing stands any more, and all that is left of it is remembered.
        let lab = Lab::new();
        unblock(&lab, scopes[3]);
        let list = lab.guard.run(&[&[bin("psentry-block"), "list"], &flags[..]].concat());
        assert!(list.stdout.is_empty(), "{name}: what does not stand is not listed");
        let said = String::from_utf8_lossy(&list.stderr).into_owned();
        assert!(said.contains("1 more are remembered in"), "{name}: {said}");
        let (mut block, _stdin) = start(&lab, &flags);
        let said = block.complaint("put back");
        assert!(said.contains("1 block remembered"), "{name}: {said}");
        assert_eq!(
            listed(&lab, &flags[2..]).iter().map(|e| &*e.0).collect::<Vec<_>>(),
            [scopes[4]],
            "{name}"
        );
        // Whom it let in itself, because somebody said so to the kernel alone.
        if name == "nft" {
            lab.guard.sh("nft delete element inet psentry v4_32 '{ 203.0.113.10 }'");
            assert_eq!(result(&mut block, scopes[4]), OutcomeResult::Released);
        } else {
            assert!(
                lab.guard.read(&[&[bin("psentry-block"), "flush"], &flags[..]].concat()).contains(scopes[4])
            );
        }
        kill(&mut block);
        let lab = Lab::new();
        let (mut block, stdin) = start(&lab, &flags);
        drop(stdin);
        let (status, output, errors) = block.end();
        assert!(status.success() && output.is_empty(), "{name}: {output:?} {errors:?}");
        assert_eq!(complaints(&errors), [""; 0], "{name}");
    }
}

/// A command is not run again for what its roll says stands. After a reboot nobody knows whether it does.
#[test]
fn no_command_is_repeated_for_what_is_restored() {
    let state = State::new();
    let command = format!("sh -c 'echo \"$PSENTRY_SCOPE $PSENTRY_DURATION\" >> {}/ran'", state.path());
    let flags = state.flags(&["--backend", "exec", "--exec", &command, "--exec-undo", "true"]);
    let ran = || std::fs::read_to_string(state.0.path().join("ran")).unwrap_or_default();
    let lab = Lab::new();
    let (mut block, mut stdin) = start(&lab, &flags);
    for scope in ["203.0.113.7/32", "203.0.113.8/32"] {
        say(&mut stdin, Action::Block, scope, Some(600));
        assert_eq!(result(&mut block, scope), OutcomeResult::Applied);
    }
    kill(&mut block);
    let (mut block, mut stdin) = start(&lab, &flags);
    // By the time that this one is answered, whatever was to be restored is.
    say(&mut stdin, Action::Block, "203.0.113.9/32", Some(600));
    assert_eq!(result(&mut block, "203.0.113.9/32"), OutcomeResult::Applied);
    assert_eq!(ran().lines().count(), 3, "{}", ran());
    kill(&mut block);
    // The machine boots, and a command by hand ends one.
    let lab = Lab::new();
    let (mut block, mut stdin) = start(&lab, &flags);
    say(&mut stdin, Action::Block, "203.0.113.10/32", Some(600));
    assert_eq!(result(&mut block, "203.0.113.10/32"), OutcomeResult::Applied);
    assert_eq!(ran().lines().count(), 4, "{}", ran());
    assert_eq!(listed(&lab, &state.flags(&["--backend", "exec"])).len(), 4);
    say(&mut stdin, Action::Unblock, "203.0.113.7/32", None);
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Released);
}

/// What a command did to this machine a reboot undoes: then the roll is to go with it.
#[test]
fn a_command_is_repeated_where_the_roll_went_with_the_reboot() {
    let state = State::new();
    let command = format!("sh -c 'echo \"$PSENTRY_SCOPE $PSENTRY_DURATION\" >> {}/ran'", state.path());
    let roll = ["--exec-roll", "/run/roll"];
    let exec = [&["--backend", "exec", "--exec", &command, "--exec-undo", "true"][..], &roll].concat();
    let flags = state.flags(&exec);
    let lab = Lab::new();
    let (mut block, mut stdin) = start(&lab, &flags);
    for scope in ["203.0.113.7/32", "203.0.113.8/32"] {
        say(&mut stdin, Action::Block, scope, Some(600));
        assert_eq!(result(&mut block, scope), OutcomeResult::Applied);
    }
    kill(&mut block);
    let lab = Lab::new();
    let (mut block, _stdin) = start(&lab, &flags);
    assert!(block.complaint("put back").contains("2 blocks"));
    let ran = std::fs::read_to_string(state.0.path().join("ran")).unwrap();
    assert_eq!(ran.lines().count(), 4, "{ran}");
    let left: u64 = ran.lines().next_back().unwrap().split_once(' ').unwrap().1.parse().unwrap();
    assert!((500..=600).contains(&left), "{ran}");
}

/// Roll and lock are in one place for the service and for commands by hand, whoever made them.
#[test]
fn commands_by_hand_find_the_roll_of_the_service() {
    let lab = Lab::new();
    // A service that has stopped leaves a link to nowhere.
    lab.guard.sh("mkdir /run/private; ln -s private/psentry-block /run/psentry-block");
    lab.guard.read(&[bin("psentry-block"), "flush"]);
    lab.guard.sh("test -d /run/private/psentry-block && test -L /run/psentry-block");
    let mut service = lab.guard.command("env");
    service.args(["RUNTIME_DIRECTORY=/run/psentry-block", bin("psentry-block"), "--backend", "exec"]);
    let mut block = Program::start_fed(service.args(["--exec", "true", "--exec-undo", "true"]));
    say(&mut block.stdin(), Action::Block, "203.0.113.7", Some(600));
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Applied);
    assert_eq!(listed(&lab, &[]).len(), 1);
}
