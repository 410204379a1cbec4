//! The same on a really booted systemd, where psentry-block runs in its sandbox: the firewall is flushed, reloaded and
//! restarted while a thousand sources are blocked. They are blocked again at once. Times are printed.

use std::time::Instant;

use super::{NAP, SECOND};
use crate::lab::{Booted, wait_until};

const BLOCKS: usize = 1000;

#[test]
fn blocks_outlive_a_reload_of_the_firewall() {
    if !Booted::possible() {
        return;
    }
    let guard = Booted::boot();
    // Whoever tried it by hand before leaves what is root's.
    guard.sh("mkdir -p /run/psentry-block; /opt/psentry/bin/psentry-block --backend iptables < /dev/null
              test -e /run/psentry-block/journal.jsonl; /opt/psentry/units/install --programs /opt/psentry/bin
              sed -i 's|^BLOCK=.*|& --brake 10000/min|' /etc/psentry/psentry.conf; systemctl restart psentry-block");
    wait_until("the blocker runs", || guard.ok("systemctl is-active psentry-block"));
    guard.sh("nft -f /etc/nftables.conf; systemctl start nftables");
    // In lines of one write each, as the FIFO takes them.
    guard.sh(&format!(
        "now=$(date -u +%FT%TZ)
         for n in $(seq 0 {}); do
             printf '{{\"timestamp\":\"%s\",\"event_type\":\"verdict\",\"verdict\":{{\"action\":\"block\",\"scope\":\"198.18.%d.%d\",\"duration\":3600}}}}\\n' $now $((n / 250)) $((n % 250))
         done > /run/psentry/verdicts",
        BLOCKS - 1
    ));
    let elements = || {
        let list = guard.run("nft list set inet psentry v4_32").stdout;
        String::from_utf8_lossy(&list).matches(" expires ").count()
    };
    let rules = || {
        let list = guard.run("nft list chain inet psentry prerouting").stdout;
        String::from_utf8_lossy(&list).matches(" drop").count()
    };
    wait_until("all are blocked", || elements() == BLOCKS && rules() > 0);
    // What is there is the service's from now on, and so is what it remembers.
    assert_eq!(guard.sh("find /run/psentry-block /var/lib/psentry-block ! -user psentry-block"), "");
    assert_eq!(
        guard.sh("stat -c %a /var/lib/psentry-block /var/lib/psentry-block/journal.jsonl"),
        "700\n600\n"
    );
    // What it and the programs that it ran took of the processor, in hundredths of a second (proc_pid_stat(5)).
    let ticks = || -> u32 {
        let pid = guard.sh("systemctl show -P MainPID psentry-block");
        let words = format!("awk '{{ print $14 + $15 + $16 + $17 }}' /proc/{}/stat", pid.trim());
        guard.sh(&words).trim().parse().unwrap()
    };
    let said = "journalctl -u psentry-block -o cat | grep -c 'put back' || true";
    for (n, change) in [
        "nft flush ruleset",
        "systemctl reload nftables",
        "systemctl restart nftables",
        "nft delete table inet psentry",
    ]
    .into_iter()
    .enumerate()
    {
        let before = ticks();
        guard.sh(change);
        let start = Instant::now();
        wait_until(&format!("all are blocked again after {change}"), || elements() == BLOCKS && rules() > 0);
        // See `damaged`.
        let (clock, took) = (start.elapsed(), (ticks() - before) * SECOND / 100);
        println!("{clock:>7.0?} by the clock, {took:.0?} of the processor: {BLOCKS} blocks after {change}");
        assert!(clock < NAP && took < SECOND, "{clock:?}, {took:?}: {change}");
        // Without this, a change that took nothing away would be as good.
        wait_until("each repair is told", || guard.sh(said).trim().parse::<usize>().unwrap() > n);
    }
    assert!(guard.ok("nft list table inet filter"), "what is the administrator's is there, too");
    // What is flushed by the command stays flushed, although the blocker runs.
    guard.sh("psentry-block flush");
    let log = "grep -c '\"scope\":\"198.18.*\"result\":\"released\"' /var/log/psentry/records.jsonl || true";
    wait_until("the blocker knows", || guard.sh(log).trim() == BLOCKS.to_string());
    guard.sh("systemctl reload nftables");
    assert!(!guard.ok("nft list table inet psentry"));
    guard.sh("/opt/psentry/units/uninstall");
}
