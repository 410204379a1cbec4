//! Thousands of sources with one packet each are all shut out and told of; what a flood brings beyond measure is
//! counted, and the counters add up.

use std::collections::BTreeSet;
use std::fs;

use super::life::worker;
use super::{counter, probes, python, trap};
use crate::lab::{GUARD, Lab, Program};

/// SYNs with forged sources of 198.18.0.0/15. Arguments: address, port, how many, how many a second (0: all it can),
/// how many ports.
pub const FORGE: &str = r#"
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
print(time.monotonic() - start)
"#;

#[test]
fn thousands_of_sources_are_all_shut_out_and_told_of() {
    for many in [1_000, 10_000] {
        let lab = Lab::new();
        lab.guard.sh("ip route add 198.18.0.0/15 dev scanner");
        let mut trap = trap(&lab, &["--quarantine", "5m"]);
        let lasted = python(&lab.scanner, FORGE, &[GUARD[0], "23", &many.to_string(), "2000", "1"]);
        let rate = many as f64 / lasted.trim().parse::<f64>().unwrap();
        println!("{many} sources, {rate:.0} a second");
        assert!(rate > 1_500.0, "the sender was too slow to show anything: {rate:.0} a second");
        let listed = lab.guard.read(&["nft", "list", "set", "inet", "psentry_trap", "quarantine4"]);
        assert_eq!(listed.matches("expires").count(), many);
        let (_, lines, errors) = trap.terminate();
        let probes = probes(&lines);
        let sources: BTreeSet<_> = probes.iter().filter_map(|probe| probe.common.src_ip).collect();
        assert_eq!(sources.len(), many, "{errors:?}");
        assert!(probes.iter().all(|probe| probe.body.signature.as_deref() == Some("masscan")));
        for (name, want) in [("seen", many), ("logged", many), ("quarantined", many), ("kernel_drops", 0)] {
            assert_eq!(counter(&lines, name), want as u64, "{name}");
        }
    }
}

/// Kilobytes of both processes of the trap; whatever else it starts, such as nft, comes and goes.
fn resident(trap: &Program) -> u64 {
    let of = |pid: u32| -> u64 {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let own = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        own.trim().trim_end_matches(" kB").parse().unwrap()
    };
    of(trap.pid()) + of(worker(trap).try_into().unwrap())
}

#[test]
fn in_a_flood_the_service_answers_and_the_counters_add_up() {
    let lab = Lab::new();
    let _service = lab.service(8088);
    lab.guard.sh("ip route add 198.18.0.0/15 dev scanner");
    let mut trap = trap(&lab, &["--quarantine", "5m", "--rate", "1000"]);
    let memory = resident(&trap);
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
    let grown = resident(&trap).saturating_sub(memory);
    assert!(grown < 32 * 1024, "{grown} kB more than before the flood");
    let (status, lines, errors) = trap.terminate();
    assert!(status.success(), "{errors:?}");
    let of = |name| counter(&lines, name);
    let written: u64 = probes(&lines).iter().map(|probe| u64::from(probe.body.count)).sum();
    assert_eq!(of("seen"), of("logged") + of("over_source_rate") + of("over_rate"));
    assert_eq!(of("logged"), of("received") + of("kernel_drops"));
    let settled =
        of("probes") + of("duplicates") + of("unreadable") + of("decoy_packets") + of("veil_packets");
    assert_eq!(of("received"), settled + of("pending"));
    assert_eq!(written, of("probes") + of("duplicates"));
    assert_eq!((of("seen"), of("refused")), (200_000, 200_000), "all are counted, none was let through");
    assert!(of("over_rate") > 0);
    assert!(errors.iter().any(|line| line.contains("beyond --rate")), "{errors:?}");
}
