//! The same on a really booted systemd, where psentry-block stands in its sandbox: the firewall is flushed, reloaded and
//! restarted while a thousand bans stand. They are back at once. Times are printed.

use std::time::Instant;

use super::{NAP, SECOND};
use crate::lab::{Booted, wait_until};

const BANS: usize = 1000;

#[test]
fn bans_outlive_a_reload_of_the_firewall() {
    if !Booted::possible() {
        return;
    }
    let guard = Booted::boot();
    // Whoever tried it by hand before leaves what is root's.
    guard.sh("/opt/psentry/bin/psentry-block --backend iptables < /dev/null; mkdir -p /run/psentry-block
              /opt/psentry/units/install --programs /opt/psentry/bin
              sed -i 's|^BLOCK=.*|& --brake 10000/min|' /etc/psentry/psentry.conf; systemctl restart psentry-block");
    wait_until("the blocker stands", || guard.ok("systemctl is-active psentry-block"));
    guard.sh("nft -f /etc/nftables.conf; systemctl start nftables");
    // In lines of one write each, as the FIFO takes them.
    guard.sh(&format!(
        "now=$(date -u +%FT%TZ)
         for n in $(seq 0 {}); do
             printf '{{\"timestamp\":\"%s\",\"event_type\":\"verdict\",\"verdict\":{{\"action\":\"block\",\"scope\":\"198.18.%d.%d\",\"duration\":3600}}}}\\n' $now $((n / 250)) $((n % 250))
         done > /run/psentry/verdicts",
        BANS - 1
    ));
    let elements = || {
        let list = guard.run("nft list set inet psentry v4_32").stdout;
        String::from_utf8_lossy(&list).matches(" expires ").count()
    };
    let rules = || {
        let list = guard.run("nft list chain inet psentry prerouting").stdout;
        String::from_utf8_lossy(&list).matches(" drop").count()
    };
    wait_until("all bans stand", || elements() == BANS && rules() > 0);
    // What is remembered is the service's, and nobody else's.
    guard.sh("test $(stat -Lc %a /var/lib/psentry-block) = 700
              test $(stat -c %a /var/lib/psentry-block/journal.jsonl) = 600
              test $(stat -c %u /var/lib/psentry-block/journal.jsonl) != 0");
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
        wait_until(&format!("the bans are back after {change}"), || elements() == BANS && rules() > 0);
        // See `damaged`.
        let (clock, took) = (start.elapsed(), (ticks() - before) * SECOND / 100);
        println!("{clock:>7.0?} by the clock, {took:.0?} of the processor: {BANS} bans after {change}");
        assert!(clock < NAP && took < SECOND, "{clock:?}, {took:?}: {change}");
        // Without this, a change that took nothing away would be as good.
        wait_until("each repair is told", || guard.sh(said).trim().parse::<usize>().unwrap() > n);
    }
    assert!(guard.ok("nft list table inet filter"), "what is the administrator's stands, too");
    // What is flushed on purpose stays flushed, although the blocker runs; without its word it would be back.
    guard.sh("psentry-block flush --backend nft");
    let log = "grep -c '\"result\":\"released\"' /var/log/psentry/records.jsonl || true";
    wait_until("the blocker knows", || guard.sh(log).trim() == BANS.to_string());
    guard.sh("systemctl reload nftables");
    assert!(!guard.ok("nft list table inet psentry"));
    guard.sh("/opt/psentry/units/uninstall");
}
