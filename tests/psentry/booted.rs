//! The status, the decoys, the mode and the rights on a really booted systemd, as after units/install.

use crate::lab::{Booted, wait_until};

use super::told;

/// Beside the programs that are installed from there.
const PSENTRY: &str = "/opt/psentry/bin/psentry";

fn boot() -> Booted {
    let guard = Booted::boot();
    guard.sh("ip link set lo up; ip address add 198.51.100.1 dev lo
              env -u SSH_CONNECTION /opt/psentry/units/install --programs /opt/psentry/bin");
    guard
}

fn psentry(guard: &Booted, line: &str) -> (Option<i32>, String) {
    told(&guard.run(&format!("exec {PSENTRY} {line}")))
}

/// The line of the status about a part.
fn part(guard: &Booted, name: &str) -> String {
    let (_, text) = psentry(guard, "status");
    text.lines().find(|line| line.split_whitespace().nth(1) == Some(name)).unwrap_or(&text).to_owned()
}

#[test]
fn the_status_is_green_only_while_every_stage_works() {
    if !Booted::possible() {
        return;
    }
    let guard = boot();
    wait_until("all is well", || psentry(&guard, "status").0 == Some(0));
    let (_, text) = psentry(&guard, "status");
    assert_eq!(text.lines().count(), 10, "{text}");
    assert!(text.contains("decoys") && text.contains("nft 0 of 0 enforced"), "{text}");
    assert!(part(&guard, "mode").contains("observing since "), "{text}");
    // The self-test is run, and known to have passed.
    guard.sh("systemctl start psentry-selftest");
    wait_until("the self-test has passed", || part(&guard, "self-test").contains("passed"));

    // A stage that is killed again and again is not well, nor is one that is stopped, masked or cannot start.
    guard.sh("systemctl kill --signal KILL psentry-judge");
    // Right after the signal systemd may not have seen yet that it is dead.
    wait_until("the judge is back", || {
        guard.ok("test $(systemctl show -P NRestarts psentry-judge) = 1 && systemctl is-active psentry-judge")
    });
    assert!(
        part(&guard, "judge").starts_with("WARNING   judge      was restarted 1 time,"),
        "{}",
        part(&guard, "judge")
    );
    guard.sh("systemctl restart psentry-judge");
    wait_until("the judge counts anew", || part(&guard, "judge").starts_with("OK"));
    guard.sh("systemctl stop psentry-block");
    // Asked once: a record in its FIFO starts it again.
    let (code, text) = psentry(&guard, "status");
    assert!(code == Some(2) && text.contains("CRITICAL  block "), "{text}");
    guard.sh("systemctl start psentry-block; systemctl mask --now psentry-trap");
    wait_until("the blocker answers", || part(&guard, "block").starts_with("OK"));
    assert!(part(&guard, "trap").starts_with("WARNING   trap       is masked"), "{}", part(&guard, "trap"));
    assert_eq!(psentry(&guard, "status").0, Some(1));
    guard.sh("systemctl unmask psentry-trap; systemctl start psentry-trap");
    guard.sh("rm /run/psentry/events");
    assert!(part(&guard, "fifos").starts_with("CRITICAL"), "{}", part(&guard, "fifos"));
    guard.sh("systemctl restart psentry-events.socket psentry-verdicts.socket psentry.target");
    wait_until("all is well again", || psentry(&guard, "status").0 == Some(0));

    // Who is in no group is told what to do.
    guard.sh("useradd --no-create-home stranger");
    let asked = guard.run(&format!("exec setpriv --reuid stranger --init-groups {PSENTRY} status"));
    let (code, text) = told(&asked);
    assert!(code == Some(77) && text.contains("run this as root"), "{text}");
}

#[test]
fn decoys_and_the_mode_are_changed_and_at_work() {
    if !Booted::possible() {
        return;
    }
    let guard = boot();
    guard.sh("systemd-run --quiet --unit service socat TCP-LISTEN:8080,reuseaddr,fork SYSTEM:'echo hello'");
    wait_until("the service listens", || guard.ok("ss -Hltn | grep -q :8080"));
    let (code, text) = psentry(&guard, "decoy");
    assert!(code == Some(0) && text.contains("23/tcp\n") && text.contains("161/udp\n"), "{text}");
    let (code, text) = psentry(&guard, "decoy add 8080");
    assert!(
        code == Some(1) && text.contains("8080/tcp is no port for a decoy: socat listens there"),
        "{text}"
    );
    let (code, text) = psentry(&guard, "decoy add 2222");
    assert!(code == Some(0) && text.contains("2222/tcp is a decoy now"), "{text}");
    wait_until("it is noticed", || {
        guard.run("timeout 1 bash -c 'echo > /dev/tcp/198.51.100.1/2222'");
        guard.ok("grep -q '\"dest_port\":2222' /var/log/psentry/records.jsonl")
    });
    assert_eq!(psentry(&guard, "decoy add 2222").0, Some(0));
    let (code, text) = psentry(&guard, "decoy remove 23");
    assert!(code == Some(0) && text.contains("free for a service"), "{text}");
    guard.sh("systemd-run --quiet --unit telnet socat TCP-LISTEN:23,reuseaddr,fork SYSTEM:'echo hello'");
    wait_until("a service has the port", || guard.ok("ss -Hltnp | grep :23 | grep -q socat"));
    assert_eq!(psentry(&guard, "decoy remove 23").0, Some(1));
    let (code, text) = psentry(&guard, "mode block");
    assert!(code == Some(0) && text.contains("its services are restarted"), "{text}");
    assert_eq!(psentry(&guard, "mode"), (Some(0), "block\n".to_owned()));
    wait_until("it blocks", || part(&guard, "mode").ends_with("blocking"));
    assert!(!guard.sh("systemctl show -p Environment psentry-judge; tr '\\0' ' ' < /proc/$(systemctl show -P MainPID psentry-judge)/cmdline").contains("--observe"));
}
