//! Thousands of sources with one packet each are all shut out and told of; what a flood brings beyond measure is
//! counted, and the counters add up.

use std::collections::BTreeSet;

use super::{counter, probes, python, trap};
use crate::lab::{GUARD, Lab};

/// SYNs with forged sources of 198.18.0.0/15. Arguments: address, port, how many, how many a second (0: all it can),
/// how many ports.
const FORGE: &str = r#"
import socket, struct, sys, time
to, port, many, rate, ports = sys.argv[1], *map(int, sys.argv[2:])
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
dest = socket.inet_aton(to)
def total(data):
    s = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while s >> 16: s = (s & 0xffff) + (s >> 16)
    return ~s & 0xffff
start = time.monotonic()
for n in range(many):
    src = struct.pack('!I', (198 << 24 | 18 << 16) + n % 131072)
    head = struct.pack('!HHIIBBHHH', 1024 + n % 60000, port + n % ports, n, 0, 0x50, 2, 1024, 0, 0)
    check = total(src + dest + struct.pack('!BBH', 0, 6, 20) + head)
    tcp = head[:16] + struct.pack('!H', check) + head[18:]
    ip = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 40, 0, 0, 255, 6, 0, src, dest)
    raw.sendto(ip + tcp, (to, 0))
    if rate and n % 50 == 49: time.sleep(max(0, start + n / rate - time.monotonic()))
print(round(time.monotonic() - start, 2))
"#;

#[test]
fn ten_thousand_sources_are_all_shut_out_and_told_of() {
    const MANY: usize = 10_000;
    let lab = Lab::new();
    lab.guard.sh("ip route add 198.18.0.0/15 dev scanner");
    let mut trap = trap(&lab, &["--quarantine", "5m"]);
    python(&lab.scanner, FORGE, &[GUARD[0], "23", &MANY.to_string(), "2000", "1"]);
    let listed = lab.guard.read(&["nft", "list", "set", "inet", "psentry_trap", "quarantine4"]);
    assert_eq!(listed.matches("198.1").count(), MANY);
    let (_, lines, errors) = trap.terminate();
    let probes = probes(&lines);
    let sources: BTreeSet<_> = probes.iter().filter_map(|probe| probe.common.src_ip).collect();
    assert_eq!(sources.len(), MANY, "{errors:?}");
    assert!(probes.iter().all(|probe| probe.body.signature.as_deref() == Some("masscan")));
    for (part, name, want) in [
        ("kernel", "seen", MANY),
        ("kernel", "told", MANY),
        ("kernel", "quarantined", MANY),
        ("reader", "lost", 0),
    ] {
        assert_eq!(counter(&lines, part, name), want as u64, "{part}.{name}");
    }
}

#[test]
fn in_a_flood_the_service_answers_and_the_counters_add_up() {
    let lab = Lab::new();
    let _service = lab.service(8088);
    lab.guard.sh("ip route add 198.18.0.0/15 dev scanner");
    let mut trap = trap(&lab, &["--quarantine", "5m", "--rate", "1000"]);
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| python(&lab.scanner, FORGE, &[GUARD[0], "100", "200000", "0", "7"]));
        let mut tries = 0;
        while !flood.is_finished() {
            assert!(lab.innocent.reaches(GUARD[0], 8088));
            tries += 1;
        }
        assert!(tries > 5);
        flood.join().unwrap();
    });
    let (status, lines, errors) = trap.terminate();
    assert!(status.success(), "{errors:?}");
    let kernel = |name| counter(&lines, "kernel", name);
    let reader = |name| counter(&lines, "reader", name);
    let told: u64 = probes(&lines).iter().map(|probe| u64::from(probe.body.count)).sum();
    assert_eq!(kernel("seen"), kernel("told") + kernel("unheard_source") + kernel("unheard_total"));
    assert_eq!(kernel("told"), reader("received") + reader("lost"));
    assert_eq!(
        reader("received"),
        reader("probes") + reader("folded") + reader("unreadable") + reader("handshakes")
    );
    assert_eq!(told, reader("probes") + reader("folded"));
    assert!(kernel("seen") > 100_000 && kernel("unheard_total") > 0, "{}", kernel("seen"));
    assert!(kernel("refused") >= kernel("seen"), "nothing was let through");
    assert!(errors.iter().any(|line| line.contains("beyond --rate")), "{errors:?}");
}
