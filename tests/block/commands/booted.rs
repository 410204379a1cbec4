//! The same on a really booted systemd: the service's sandbox has room for the socket, root reaches it without a flag,
//! nobody else does, and a panic outlives the service.

use crate::lab::{Booted, wait_until};

/// Stops all of it, and waits for that. With its sockets: the trap's last record would start the blocker again.
fn stop(guard: &Booted) {
    guard.sh("systemctl stop psentry.target");
    wait_until("it has stopped", || {
        guard.ok("test ! -e /run/psentry-block/ && test ! -e /run/psentry/verdicts")
    });
}

#[test]
fn the_service_is_asked_without_a_flag_and_keeps_a_panic() {
    if !Booted::possible() {
        return;
    }
    let guard = Booted::boot();
    guard.sh("ip link set lo up; ip address add 198.51.100.1 dev lo
              env -u SSH_CONNECTION /opt/psentry/units/install --programs /opt/psentry/bin");
    let block = "/usr/local/bin/psentry-block";
    wait_until("it answers", || guard.ok(&format!("{block} status | grep -q '\"daemon\":\"answers\"'")));
    guard.sh(&format!("{block} block 203.0.113.7 --for 1h --reason 'by hand' | grep -q applied"));
    guard.sh(&format!("{block} status | grep -q '\"wanted\":1,\"standing\":1'"));
    guard.sh(&format!("{block} why 203.0.113.7 | grep -q '\"reason\":\"by hand\"'"));
    guard.sh(
        "grep -q '\"rule\"' /var/lib/psentry-block/nft.jsonl; grep -q applied /var/log/psentry/records.jsonl",
    );
    // The runtime directory is closed to others, whatever the socket's mode.
    assert_eq!(guard.sh("stat -c %a /run/psentry-block/control"), "600\n");
    let other =
        format!("setpriv --reuid 65534 --clear-groups {block} status --control /run/psentry-block/control");
    assert_eq!(guard.run(&other).status.code(), Some(77));
    guard.sh(&format!("{block} panic --reason test"));
    assert!(!guard.ok("nft list ruleset | grep -q 203.0.113.7"));
    // Beyond a stop, which takes the runtime directory away; declared again, while nobody runs.
    stop(&guard);
    guard.sh(&format!(
        "test -e /var/lib/psentry-block/panic; {block} panic; test -e /run/psentry-block/panic"
    ));
    guard.sh("systemctl start psentry.target");
    wait_until("it answers", || guard.ok(&format!("{block} status 2>&1 | grep -q '\"daemon\":\"answers\"'")));
    let refused = guard.run(&format!("{block} block 203.0.113.7 --for 1h"));
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("panic"));
    guard
        .sh(&format!("{block} resume; {block} block 203.0.113.8 --for 1h | grep -q applied; {block} status"));
    assert!(!guard.ok("nft list ruleset | grep -q 203.0.113.7"));
    // A restart loses neither.
    guard.sh("systemctl restart psentry-block");
    wait_until("it answers again", || {
        guard.ok(&format!("{block} status | grep -q '\"daemon\":\"answers\"'"))
    });
    // Gone, it leaves no socket behind, and its commands work without it.
    stop(&guard);
    guard.sh(&format!(
        "{block} status | grep -q '\"standing\":1'; {block} unblock 203.0.113.8 | grep -q released"
    ));
}
