//! The same on a really booted systemd: the service's sandbox has room for the socket and for the judge's FIFO, root reaches it
//! without a flag, the group psentry only asks, and a panic outlives the service.

use crate::lab::{Booted, wait_until};

const BLOCK: &str = "/usr/local/bin/psentry-block";

fn boot() -> Booted {
    let guard = Booted::boot();
    guard.sh("ip link set lo up; ip address add 198.51.100.1 dev lo
              env -u SSH_CONNECTION /opt/psentry/units/install --programs /opt/psentry/bin");
    answers(&guard);
    guard
}

fn answers(guard: &Booted) {
    let status = format!("{BLOCK} status 2>&1 | grep -q '\"daemon\":\"answers\"'");
    wait_until("it answers", || guard.ok(&status));
}

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
    let guard = boot();
    guard.sh(&format!("{BLOCK} block 203.0.113.7 --for 1h --reason 'by hand' | grep -q applied"));
    guard.sh(&format!("{BLOCK} status | grep -q '\"wanted\":1,\"standing\":1'"));
    guard.sh(&format!("{BLOCK} why 203.0.113.7 | grep -q '\"reason\":\"by hand\"'"));
    guard.sh("grep -q '\"rule\"' /var/lib/psentry-block/journal.jsonl
         grep -q applied /var/log/psentry/records.jsonl");
    // Whoever is in the group may ask, and nobody but root and the service's own user may change anything.
    assert_eq!(guard.sh("stat -c '%a %U %G' /run/psentry-block/control"), "660 psentry-block psentry\n");
    let as_user = |who: &str, line: &str| {
        guard.run(&format!("setpriv --reuid 65534 {who} --clear-groups {BLOCK} {line}")).status.code()
    };
    assert_eq!(as_user("--regid 65534", "status"), Some(77));
    for line in ["status", "list", "why 203.0.113.7"] {
        assert_eq!(as_user("--regid psentry", line), Some(0), "{line}");
    }
    for line in ["unblock 203.0.113.7", "block 203.0.113.8", "flush", "panic"] {
        assert_eq!(as_user("--regid psentry", line), Some(77), "{line}");
    }
    guard.sh(&format!("{BLOCK} panic --reason test"));
    assert!(!guard.ok("nft list ruleset | grep -q 203.0.113.7"));
    assert_eq!(guard.sh("stat -c '%a %U' /var/lib/psentry /var/lib/psentry/panic"), "755 root\n644 root\n");
    // Beyond a stop, which takes the runtime directory away; declared again, while nobody runs.
    stop(&guard);
    guard.sh(&format!("{BLOCK} panic; systemctl start psentry.target"));
    answers(&guard);
    let refused = guard.run(&format!("{BLOCK} block 203.0.113.7 --for 1h"));
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("panic"));
    guard
        .sh(&format!("{BLOCK} resume; {BLOCK} block 203.0.113.8 --for 1h | grep -q applied; {BLOCK} status"));
    assert!(!guard.ok("nft list ruleset | grep -q 203.0.113.7"));
    // A restart loses neither.
    guard.sh("systemctl restart psentry-block");
    answers(&guard);
    // Gone, it leaves no socket behind, and its commands work without it.
    stop(&guard);
    guard.sh(&format!(
        "{BLOCK} status | grep -q '\"standing\":1'; {BLOCK} unblock 203.0.113.8 | grep -q released"
    ));
}

/// The judge of the service is told by the service, and has who scans again blocked again.
#[test]
fn the_judge_of_the_service_knows_who_was_released() {
    if !Booted::possible() {
        return;
    }
    let guard = boot();
    guard.sh("sed -i 's/^OBSERVE=.*/OBSERVE=/' /etc/psentry/psentry.conf; systemctl restart psentry.target");
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
