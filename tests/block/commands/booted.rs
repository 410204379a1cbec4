//! The same on a really booted systemd: root commands the service without a flag, the group psentry asks it, nobody else does
//! either; a panic is root's and outlives the service; and the judge is told of whom somebody released.

use crate::lab::{Booted, wait_until};

const BLOCK: &str = "/usr/local/bin/psentry-block";

/// Stops all of it, and waits for that. With its sockets: the trap's last record would start the blocker again.
fn stop(guard: &Booted) {
    guard.sh("systemctl stop psentry.target");
    wait_until("it has stopped", || {
        guard.ok("test ! -e /run/psentry-block/ && test ! -e /run/psentry/verdicts")
    });
}

/// Waits until the service answers.
fn answers(guard: &Booted) {
    wait_until("it answers", || {
        guard.ok(&format!("{BLOCK} status --json 2>&1 | grep -q '\"daemon\":\"answers\"'"))
    });
}

/// A command in the name of a user: its exit code, and what it says.
fn as_user(guard: &Booted, user: &str, command: &str) -> (Option<i32>, String) {
    let output = guard.run(&format!("exec setpriv --reuid {user} --init-groups {BLOCK} {command}"));
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

fn is_blocked(guard: &Booted, address: &str) -> bool {
    guard.ok(&format!("nft list table inet psentry | grep -q {address}"))
}

fn boot() -> Booted {
    let guard = Booted::boot();
    guard.sh("ip link set lo up; ip address add 198.51.100.1 dev lo
              env -u SSH_CONNECTION /opt/psentry/units/install --programs /opt/psentry/bin");
    answers(&guard);
    guard
}

#[test]
fn root_commands_the_service_and_the_group_asks_it() {
    if !Booted::possible() {
        return;
    }
    let guard = boot();
    guard.sh("useradd --no-create-home --groups psentry member; useradd --no-create-home stranger");
    guard.sh(&format!("{BLOCK} block --json 203.0.113.7 --for 1h --reason 'by hand' | grep -q applied"));
    guard.sh(&format!("{BLOCK} status --json | grep -q '\"wanted\":1,\"standing\":1'"));
    guard.sh(&format!("{BLOCK} why --json 203.0.113.7 | grep -q '\"reason\":\"by hand\"'"));
    guard.sh("grep -q 203.0.113.7 /var/lib/psentry-block/journal.jsonl; grep -q applied /var/log/psentry/records.jsonl");

    // The group may ask, and change nothing.
    let modes = guard.sh("stat -c '%a %U %G' /run/psentry-block /run/psentry-block/control");
    assert_eq!(modes, "755 psentry-block psentry\n660 psentry-block psentry\n");
    for command in ["list", "why 203.0.113.7", "status"] {
        let (code, said) = as_user(&guard, "member", command);
        assert!(
            code == Some(0) && (said.contains("203.0.113.7") || command == "status"),
            "{command}: {said}"
        );
    }
    for command in ["unblock 203.0.113.7", "block 203.0.113.9", "flush", "panic"] {
        let (code, said) = as_user(&guard, "member", command);
        assert_eq!(code, Some(77), "{command}: {said}");
    }
    for command in ["status", "list", "unblock 203.0.113.7", "panic"] {
        let (code, said) = as_user(&guard, "stranger", command);
        assert_eq!(code, Some(77), "{command}: {said}");
    }
    assert!(is_blocked(&guard, "203.0.113.7") && !is_blocked(&guard, "203.0.113.9"));
    // The user of the service may do what it may do itself.
    let (code, said) = as_user(&guard, "psentry-block", "unblock 203.0.113.7");
    assert!(code == Some(0) && said.contains("released"), "{said}");

    guard.sh(&format!("{BLOCK} block --json 203.0.113.7 --for 1h"));

    // A panic is a file of root's, which everybody may read.
    assert_eq!(guard.sh("stat -c '%a %U %G' /var/lib/psentry"), "755 root root\n");
    guard.sh(&format!("umask 077; {BLOCK} panic --reason test"));
    assert_eq!(guard.sh("stat -c '%a %U %G' /var/lib/psentry/panic"), "644 root root\n");
    assert!(!guard.ok("nft list tables | grep -q 'inet psentry$'"));
    assert_eq!(as_user(&guard, "member", "resume").0, Some(77));
    assert!(!guard.ok("setpriv --reuid psentry-block --init-groups rm -f /var/lib/psentry/panic"));
    guard.sh(
        "printf '{\"timestamp\":\"%s\",\"event_type\":\"verdict\",\"verdict\":{\"action\":\"block\",\"scope\":\"203.0.113.21\",\
         \"duration\":600}}\\n' $(date -u +%FT%TZ) > /run/psentry/verdicts",
    );
    let refused =
        "grep '\"scope\":\"203.0.113.21/32\".*\"result\":\"refused\".*panic' /var/log/psentry/records.jsonl";
    wait_until("the verdict is refused", || guard.ok(refused));
    // Beyond a stop, which takes the runtime directory away; declared again, while nobody runs.
    stop(&guard);
    guard.sh(&format!("{BLOCK} panic; systemctl start psentry.target"));
    answers(&guard);
    let refused = guard.run(&format!("{BLOCK} block --json 203.0.113.7 --for 1h"));
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("panic"));
    assert_eq!(guard.run(&format!("{BLOCK} status --json")).status.code(), Some(1));
    guard.sh(&format!(
        "{BLOCK} resume; {BLOCK} block --json 203.0.113.8 --for 1h | grep -q applied; {BLOCK} status --json"
    ));
    assert!(!is_blocked(&guard, "203.0.113.7"));
    // A restart loses neither.
    guard.sh("systemctl restart psentry-block");
    answers(&guard);
    guard.sh(&format!("{BLOCK} status --json | grep -q '\"wanted\":1,\"standing\":1'"));
    // No command of root's left anything that the service cannot write.
    assert_eq!(guard.sh("find /run/psentry-block /var/lib/psentry-block ! -user psentry-block"), "");
    // Gone, it leaves no socket behind, and its commands work without it.
    stop(&guard);
    guard.sh(&format!(
        "{BLOCK} status --json | grep -q '\"standing\":1'; {BLOCK} unblock 203.0.113.8 | grep -q released"
    ));
    assert_eq!(guard.sh("find /var/lib/psentry-block ! -user psentry-block"), "");
}

/// The judge of the service is told by the service, and has who scans again blocked again.
#[test]
fn the_judge_of_the_service_knows_who_was_released() {
    if !Booted::possible() {
        return;
    }
    let guard = boot();
    guard.sh("sed -i 's/^MODE=.*/MODE=block/' /etc/psentry/psentry.conf; systemctl restart psentry.target");
    answers(&guard);
    let scan = r#"for port in 23 445; do
        printf '{"timestamp":"%s","event_type":"probe","src_ip":"192.0.2.98","dest_port":%d,"proto":"TCP","probe":{"handshake":true}}\n' \
            "$(date -u +%FT%TZ)" $port; done > /run/psentry/events"#;
    let is_blocked = || guard.ok("nft list ruleset | grep -q 192.0.2.98");
    guard.sh(scan);
    wait_until("it is blocked", is_blocked);
    for release in ["unblock 192.0.2.98", "flush", "panic && /usr/local/bin/psentry-block resume"] {
        let output = guard.run(&format!("{BLOCK} {release}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("judge"), "{release}: {said}");
        assert!(!is_blocked(), "{release}");
        guard.sh(scan);
        wait_until("it is blocked again", is_blocked);
    }
    assert!(!guard.ok("journalctl -u psentry-judge -o cat | grep 'not passed on'"));
}
