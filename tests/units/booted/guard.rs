//! What the blocker asks of the machine it gets in its sandbox, too.

use super::GUARD;
use crate::lab::{Booted, Host, Program, wait_until};

/// Who is logged in, a resolver behind a stub, the other end of a tunnel, and the ignore file.
pub(super) fn is_whole_in_the_sandbox(guard: &Booted, scanner: &Host) {
    guard.sh("systemd-run --quiet --unit sshd-to-be socat TCP-LISTEN:22,reuseaddr,fork EXEC:cat
        mkdir -p /run/systemd/seats /run/systemd/sessions /run/systemd/resolve; touch /run/systemd/seats/seat0
        printf 'REMOTE=1\\nREMOTE_HOST=203.0.113.8\\n' > /run/systemd/sessions/c99
        cp /etc/resolv.conf /run/resolv.conf; echo nameserver 127.0.0.53 > /etc/resolv.conf
        echo nameserver 192.0.2.53 > /run/systemd/resolve/resolv.conf
        ip address add 198.18.7.1 peer 198.18.7.2 dev scanner; ip route add 0.0.0.0/1 dev scanner");
    wait_until("it listens", || guard.ok("ss -Hltn | grep -q :22"));
    scanner.sh("ip address add 203.0.113.8/24 dev eth0");
    let session = format!("TCP4:{GUARD}:22,bind=203.0.113.8");
    let mut session = Program::start_fed(scanner.command("socat").args(["-", &session]));
    let _typing = session.stdin();
    wait_until("he is logged in", || guard.sh("ss -Htn state established").contains("203.0.113.8"));
    guard.sh("echo 192.0.2.98 >> /etc/psentry/ignore");
    for (addr, why) in [
        ("203.0.113.8", "203.0.113.8, which is logged in on port 22"),
        ("192.0.2.53", "192.0.2.53, a resolver of this machine"),
        ("198.18.7.2", "198.18.7.2, the default gateway of this machine"),
        ("192.0.2.98", "192.0.2.98/32 is an address that --allow names"),
    ] {
        guard.sh(&format!(
            "printf '{{\"timestamp\":\"%s\",\"event_type\":\"verdict\",\"verdict\":{{\"action\":\"block\",\
             \"scope\":\"{addr}\",\"duration\":600}}}}\\n' $(date -u +%FT%TZ) > /run/psentry/verdicts"
        ));
        let look = format!("grep '\"scope\":\"{addr}/32\".*\"result\"' /var/log/psentry/records.jsonl");
        wait_until(addr, || guard.ok(&look));
        let outcome = guard.sh(&look);
        assert!(outcome.contains(r#""result":"refused""#) && outcome.contains(why), "{outcome}");
    }
    guard.sh("systemctl stop sshd-to-be; rm /run/systemd/sessions/c99 /run/systemd/resolve/resolv.conf
        cat /run/resolv.conf > /etc/resolv.conf; rm /run/resolv.conf
        ip route del 0.0.0.0/1 dev scanner; ip address del 198.18.7.1 peer 198.18.7.2 dev scanner");
    // When he has gone, he is blocked.
    wait_until("he is blocked", || guard.sh("nft list table inet psentry").contains("203.0.113.8"));
}
