//! The mirage's sockets as systemd opens them.

use std::path::Path;

use super::*;
use crate::lab::{Booted, Host};

#[test]
fn the_socket_units_bear_the_same_mark() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("units");
    for name in ["psentry-tcp@.socket", "psentry-udp@.socket", "psentry-mirage.socket"] {
        let unit = std::fs::read_to_string(units.join(name)).unwrap();
        assert!(unit.lines().any(|line| line == format!("Mark={DECOY_MARK}")), "{name}");
    }
}

/// The sockets are systemd's: the sandbox of psentry-listen.service has no right, no network and no address family.
#[test]
fn under_systemd_the_mirage_takes_no_right() {
    if !Booted::possible() {
        return;
    }
    let guard = Booted::boot();
    let scanner = Host::new_in_network_namespace();
    scanner.sh(&format!(
        "ip link add eth0 type veth peer name scanner netns {pid}
         ip address add {address}/24 dev eth0; ip link set eth0 up; ip route add default via 203.0.113.1",
        pid = guard.pid(),
        address = SCANNER[0]
    ));
    guard.sh(&format!(
        "ip link set lo up; ip address add {} dev lo; ip address add 203.0.113.1/24 dev scanner; ip link set scanner up
         /opt/psentry/units/install --programs /opt/psentry/bin
         systemctl enable psentry-mirage.socket; systemctl restart psentry.target",
        GUARD[0]
    ));
    let records = || guard.sh("cat /var/log/psentry/records.jsonl");
    wait_until("the decoys stand", || guard.ok("systemctl is-active psentry-listen psentry-mirage.socket"));
    guard.sh(&format!("nft -f - <<'RULES'\n{RULES}\nRULES"));
    scanner.touch(GUARD[0], 12_345);
    wait_until("the touch is told", || records().contains(r#""dest_port":12345,"proto":"TCP""#));
    scanner.sh(&format!("echo hello | socat -t 0 - UDP4:{}:12346", GUARD[0]));
    wait_until("the datagram is told", || records().contains(r#""dest_port":12346,"proto":"UDP""#));
    assert!(!records().contains(r#""cookie":true"#), "{}", records());
    // From its second start on it knows that every SYN was kept.
    guard.sh("systemctl restart psentry-listen; echo 2 > /proc/sys/net/ipv4/tcp_syncookies");
    scanner.touch(GUARD[0], 12_347);
    scanner.touch(GUARD[0], 23);
    for (port, sensor) in [(12_347, "mirage"), (23, "listen")] {
        let weak = format!(
            r#""dest_port":{port},"proto":"TCP","probe":{{"sensor":"{sensor}","kind":"connect","handshake":true,"cookie":true}}"#
        );
        wait_until("the cookie is told", || records().contains(&weak));
    }
}
