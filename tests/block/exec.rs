//! Blocks by a command of the administrator's: what it is told, what becomes of one that fails or hangs, and what is known of it
//! after a restart: a command cannot be asked, so all that it did is in the journal.

use nix::sys::signal::Signal;
use psentry_records::{Action, Common, OutcomeResult, Record, Timestamp, Verdict, VerdictBody, Writer};

use crate::lab::blocker::{outcome, result, say, start};
use crate::lab::{Lab, Program, bin};

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
    let unblock = [&[bin("psentry-block"), "unblock", "--json", "203.0.113.8"], &flags[..]].concat();
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
    let list = lab.guard.read(&[bin("psentry-block"), "list", "--json", "--backend", "exec"]);
    assert_eq!(list, "", "what failed is never written down as done");
    lab.guard.sh("touch /run/willing");
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Applied);
}

/// Backends are applied in their order, as PortSentry's KILL_RUN_CMD_FIRST has it; but a command that hangs is waited for no
/// longer than it may take, and not again.
#[test]
fn a_command_that_hangs_is_ended_and_holds_up_no_other_backend() {
    let hangs = |number: u32| format!("sh -c 'sleep 1000{number}; echo {{addr}}'");
    let command = hangs(1);
    let exec = ["--backend", "exec", "--exec", &command];
    for nft in [["--backend", "nft", "--exec-timeout", "2s"], ["--backend", "nft", "--exec-timeout", "1h"]] {
        // The one that hangs is the last one, and then the first one.
        for flags in [[&nft[..], &exec].concat(), [&exec[..], &nft].concat()] {
            let lab = Lab::new();
            let (mut block, mut stdin) = start(&lab, &flags);
            say(&mut stdin, Action::Block, "203.0.113.7", Some(600));
            let ends = flags.contains(&"2s");
            let mut results: Vec<(String, OutcomeResult)> = (0..if ends { 2 } else { 1 })
                .map(|_| outcome(&mut block, "203.0.113.7/32").body)
                .map(|body| (body.backend.unwrap(), body.result))
                .collect();
            results.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            let is = |name: &str, result| (name.to_owned(), result);
            let both = [is("exec", OutcomeResult::Failed), is("nft", OutcomeResult::Applied)];
            assert_eq!(results, both[usize::from(!ends)..], "{flags:?}");
            block.terminate();
        }
    }
    // Nothing else on this machine sleeps for so long.
    let (lab, number) = (Lab::new(), std::process::id());
    let (mut block, mut stdin) =
        start(&lab, &["--backend", "exec", "--exec", &hangs(number), "--exec-timeout", "2s"]);
    say(&mut stdin, Action::Block, "203.0.113.7", Some(600));
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Failed);
    // It is tried again until it is asked to stop, and then nothing of it is left.
    block.terminate();
    let left = std::fs::read_dir("/proc").unwrap().any(|process| {
        let line = std::fs::read(process.unwrap().path().join("cmdline")).unwrap_or_default();
        line == format!("sleep\01000{number}\0").into_bytes()
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

/// Writes a verdict for a scope, because of an address in it.
fn say_of(stdin: &mut std::process::ChildStdin, scope: &str, addr: &str, duration: Option<u64>) {
    let body = VerdictBody { duration, ..VerdictBody::new(Action::Block, scope.parse().unwrap()) };
    let common = Common { src_ip: Some(addr.parse().unwrap()), ..Common::at(Timestamp::now()) };
    Writer::new(stdin).write(&Record::Verdict(Verdict { common, body })).unwrap();
}

/// `{addr}` is who convicted himself, and `{scope}` the prefix that is blocked: of IPv6 the first address of a /64 is nobody's. So
/// it is for the command that ends a block, also after a restart, and where the block was over by then.
#[test]
fn a_command_is_told_the_attacker_and_not_the_first_address_of_his_network() {
    let lab = Lab::new();
    lab.guard.sh("mkdir /run/state");
    let flags = [
        "--state",
        "/run/state",
        "--backend",
        "exec",
        "--exec",
        "sh -c 'echo block $0 $1 >> /run/ran; test $0 != 2001:db8:b::2' {addr} {scope}",
        "--exec-undo",
        "sh -c 'echo unblock $0 $1 >> /run/ran' {addr} {scope}",
    ];
    let (mut block, mut stdin) = start(&lab, &flags);
    for (scope, addr, duration, want) in [
        ("2001:db8:8::/64", "2001:db8:8::2", None, OutcomeResult::Applied),
        ("2001:db8:9::/64", "2001:db8:9::2", Some(600), OutcomeResult::Applied),
        ("2001:db8:a::/64", "2001:db8:a::2", Some(3), OutcomeResult::Applied),
        // It fails, and may have blocked nevertheless.
        ("2001:db8:b::/64", "2001:db8:b::2", Some(3), OutcomeResult::Failed),
        ("198.18.0.0/24", "198.18.0.7", Some(600), OutcomeResult::Applied),
    ] {
        say_of(&mut stdin, scope, addr, duration);
        assert_eq!(result(&mut block, scope), want);
    }
    block.signal(Signal::SIGKILL);
    block.end();
    std::thread::sleep(std::time::Duration::from_secs(4));
    lab.guard.sh("rm /run/ran");
    let (mut block, mut stdin) = start(&lab, &flags);
    for _ in 0..2 {
        block.record(
            "expired",
            |record| matches!(record, Record::Outcome(o) if o.body.result == OutcomeResult::Expired),
        );
    }
    say(&mut stdin, Action::Unblock, "2001:db8:8::/64", None);
    assert_eq!(result(&mut block, "2001:db8:8::/64"), OutcomeResult::Released);
    let flush = lab.guard.read(&[bin("psentry-block"), "flush", "--json"]);
    assert_eq!(flush.matches("\"released\"").count(), 2, "{flush}");
    let mut ran: Vec<String> = lab.guard.sh("cat /run/ran").lines().map(str::to_owned).collect();
    ran.sort_unstable();
    let wanted = [
        "unblock 198.18.0.7 198.18.0.0/24",
        "unblock 2001:db8:8::2 2001:db8:8::/64",
        "unblock 2001:db8:9::2 2001:db8:9::/64",
        "unblock 2001:db8:a::2 2001:db8:a::/64",
        "unblock 2001:db8:b::2 2001:db8:b::/64",
    ];
    assert_eq!(ran, wanted);
}

/// A command for PortSentry would pass its placeholders on as they are, and fail at the first attacker.
#[test]
fn the_placeholders_of_portsentry_are_refused_with_what_to_write_instead() {
    let lab = Lab::new();
    for (flags, said) in [
        (
            ["--exec", "route add -host $TARGET$ reject"],
            "--exec knows no $TARGET$ of PortSentry, write {addr}",
        ),
        (["--exec", "sh -c 'echo $PORT$ {addr}'"], "--exec knows no $PORT$ of PortSentry, write {port}"),
        (["--exec-undo", "echo $MODE$"], "--exec-undo knows no $MODE$ of PortSentry, write {proto}"),
    ] {
        let both = [
            &["--backend", "exec"][..],
            &["--exec", "true"][usize::from(flags[0] == "--exec") * 2..],
            &flags,
        ]
        .concat();
        for check in [&["--check"][..], &[]] {
            let output = lab.guard.run(&[&[bin("psentry-block")], &both[..], check].concat());
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            let code = if check.is_empty() { 64 } else { 78 };
            assert!(
                output.status.code() == Some(code) && error.contains(said),
                "{flags:?} {check:?}: {output:?}"
            );
        }
    }
}

/// No command is repeated for what is known to be there, not after a reboot either: what it did at a router is still there.
#[test]
fn no_command_is_repeated_for_what_is_restored() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().to_str().unwrap();
    let command = format!("sh -c 'echo \"$PSENTRY_SCOPE $PSENTRY_DURATION\" >> {path}/ran'");
    let flags = ["--state", path, "--backend", "exec", "--exec", &command, "--exec-undo", "true"];
    let ran = || std::fs::read_to_string(state.path().join("ran")).unwrap_or_default();
    let lab = Lab::new();
    let (mut block, mut stdin) = start(&lab, &flags);
    for scope in ["203.0.113.7/32", "203.0.113.8/32"] {
        say(&mut stdin, Action::Block, scope, Some(600));
        assert_eq!(result(&mut block, scope), OutcomeResult::Applied);
    }
    block.signal(Signal::SIGKILL);
    block.end();
    let (mut block, mut stdin) = start(&lab, &flags);
    // By the time that this one is answered, whatever was to be put back is.
    say(&mut stdin, Action::Block, "203.0.113.9/32", Some(600));
    assert_eq!(result(&mut block, "203.0.113.9/32"), OutcomeResult::Applied);
    assert_eq!(ran().lines().count(), 3, "{}", ran());
    block.signal(Signal::SIGKILL);
    block.end();
    // The machine is started again.
    let lab = Lab::new();
    let (mut block, mut stdin) = start(&lab, &flags);
    say(&mut stdin, Action::Block, "203.0.113.10/32", Some(600));
    assert_eq!(result(&mut block, "203.0.113.10/32"), OutcomeResult::Applied);
    assert_eq!(ran().lines().count(), 4, "{}", ran());
    let list = lab.guard.read(&[bin("psentry-block"), "list", "--json", "--backend", "exec"]);
    assert_eq!(list.lines().count(), 4, "{list}");
    say(&mut stdin, Action::Unblock, "203.0.113.7/32", None);
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Released);
}

/// Killed while a command runs, nobody knows whether it blocked: it is run again, or undone where that is over.
#[test]
fn what_a_command_was_doing_when_psentry_block_was_killed_is_done_again_or_undone() {
    let lab = Lab::new();
    lab.guard.sh("mkdir /run/state");
    let command = "sh -c 'echo block $0 >> /run/ran; touch /run/$0; while test -e /run/wait; do sleep 0.05; done' {addr}";
    let undo = "sh -c 'echo unblock $0 >> /run/ran; rm /run/$0' {addr}";
    let flags = ["--state", "/run/state", "--backend", "exec", "--exec", command, "--exec-undo", undo];
    lab.guard.sh("touch /run/wait");
    let (mut block, mut stdin) = start(&lab, &flags);
    say(&mut stdin, Action::Block, "203.0.113.7", Some(600));
    say(&mut stdin, Action::Block, "203.0.113.8", Some(2));
    crate::lab::wait_until("both run", || {
        lab.guard.ok(&["test", "-e", "/run/203.0.113.7", "-a", "-e", "/run/203.0.113.8"])
    });
    block.signal(Signal::SIGKILL);
    block.end();
    lab.guard.sh("rm /run/wait /run/ran; sleep 2");
    let (mut block, _stdin) = start(&lab, &flags);
    assert_eq!(result(&mut block, "203.0.113.8/32"), OutcomeResult::Expired);
    crate::lab::wait_until("both have run", || lab.guard.sh("cat /run/ran || true").lines().count() == 2);
    let ran = lab.guard.sh("sort /run/ran");
    assert_eq!(ran, "block 203.0.113.7\nunblock 203.0.113.8\n");
    assert!(lab.guard.ok(&["test", "-e", "/run/203.0.113.7", "-a", "!", "-e", "/run/203.0.113.8"]));
}

/// What a command was doing while everything was flushed is still known after a kill, and undone.
#[test]
fn what_a_command_was_doing_at_a_flush_is_undone_though_psentry_block_was_killed() {
    let lab = Lab::new();
    lab.guard.sh("mkdir /run/state; touch /run/wait");
    let command = "sh -c 'touch /run/$0; while test -e /run/wait; do sleep 0.05; done' {addr}";
    let exec = ["--exec", command, "--exec-undo", "rm /run/{addr}", "--exec-timeout", "1m"];
    let flags = [&["--state", "/run/state", "--backend", "exec"][..], &exec].concat();
    let (mut block, mut stdin) = start(&lab, &flags);
    say(&mut stdin, Action::Block, "203.0.113.7", Some(600));
    let is_there = || lab.guard.ok(&["test", "-e", "/run/203.0.113.7"]);
    crate::lab::wait_until("it runs", is_there);
    let _flush = Program::start(lab.guard.command(bin("psentry-block")).args(["flush", "--json"]));
    crate::lab::wait_until("nobody is wanted", || {
        let status = lab.guard.run(&[bin("psentry-block"), "status", "--json"]);
        String::from_utf8_lossy(&status.stdout).contains("\"wanted\":0,")
    });
    block.signal(Signal::SIGKILL);
    block.end();
    lab.guard.sh("rm /run/wait");
    let (_block, _stdin) = start(&lab, &flags);
    crate::lab::wait_until("it is undone", || !is_there());
}

/// While the command that ends a block runs, its source may be blocked anew and released: each verdict is answered once, and for the
/// newer block.
#[test]
fn what_is_asked_while_an_older_block_is_undone_is_answered_once() {
    let lab = Lab::new();
    lab.guard.sh("touch /run/wait");
    let undo =
        "sh -c 'touch /run/undoing; while test -e /run/wait; do sleep 0.05; done; rm -f /run/$0' {addr}";
    let (mut block, mut stdin) = start(
        &lab,
        &["--backend", "exec", "--exec", "touch /run/{addr}", "--exec-undo", undo, "--exec-timeout", "1m"],
    );
    say(&mut stdin, Action::Block, "203.0.113.7", Some(2));
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Applied);
    crate::lab::wait_until("it is being undone", || lab.guard.ok(&["test", "-e", "/run/undoing"]));
    say(&mut stdin, Action::Block, "203.0.113.7", Some(600));
    say(&mut stdin, Action::Unblock, "203.0.113.7", None);
    // Once this one is there, those before it have been read.
    say(&mut stdin, Action::Block, "203.0.113.8", Some(600));
    assert_eq!(result(&mut block, "203.0.113.8/32"), OutcomeResult::Applied);
    lab.guard.sh("rm /run/wait");
    let blocked = outcome(&mut block, "203.0.113.7/32").body;
    assert_eq!((blocked.action, blocked.result), (Action::Block, OutcomeResult::Released));
    assert!(blocked.until.is_some_and(|until| until.since(Timestamp::now()).as_secs() > 500), "{blocked:?}");
    let unblocked = outcome(&mut block, "203.0.113.7/32").body;
    assert_eq!((unblocked.action, unblocked.result), (Action::Unblock, OutcomeResult::Released));
    say(&mut stdin, Action::Block, "203.0.113.7", Some(600));
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Applied);
}

/// Whoever unblocks where no psentry-block can be asked ends what the command did, and waits for nothing: where none runs, and
/// where one runs that has no socket.
#[test]
fn an_unblock_without_a_control_socket_waits_for_nothing() {
    let lab = Lab::new();
    lab.guard.sh("mkdir /run/state");
    let exec = ["--exec", "touch /run/{addr}", "--exec-undo", "rm /run/{addr}"];
    let flags = [&["--state", "/run/state", "--backend", "exec"][..], &exec].concat();
    let (mut block, mut stdin) = start(&lab, &flags);
    for addr in ["203.0.113.7", "203.0.113.8"] {
        say(&mut stdin, Action::Block, addr, Some(600));
        assert_eq!(result(&mut block, &format!("{addr}/32")), OutcomeResult::Applied);
    }
    let is_there = |addr: &str| lab.guard.ok(&["test", "-e", &format!("/run/{addr}")]);
    let unblock = |addr: &str, more: &[&str]| {
        let mut command = lab.guard.command(bin("psentry-block"));
        let mut unblock = Program::start(command.args(["unblock", addr, "--json"]).args(&flags).args(more));
        unblock.end()
    };
    // It is asked at another place, so that the command finds nobody: the journal is kept by somebody, and that is said.
    let (status, _, errors) = unblock("203.0.113.7", &["--control", "/run/nowhere"]);
    assert_eq!(status.code(), Some(71), "{errors:?}");
    assert!(errors.iter().any(|line| line.contains("another psentry-block")), "{errors:?}");
    assert!(is_there("203.0.113.7"));
    block.signal(Signal::SIGKILL);
    block.end();
    let (status, output, errors) = unblock("203.0.113.7", &[]);
    assert!(status.success() && output[0].contains("\"released\""), "{output:?} {errors:?}");
    assert!(!is_there("203.0.113.7") && is_there("203.0.113.8"));
    // Asked once more, there is nothing to wait for.
    let (status, output, errors) = unblock("203.0.113.7", &[]);
    assert!(status.success() && output[0].contains("\"already\""), "{output:?} {errors:?}");
    let (mut block, _stdin) = start(&lab, &flags);
    block.complaint("put back 1 block from before");
}
