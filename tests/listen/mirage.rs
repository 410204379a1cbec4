//! One socket that stands for every port: whatever is touched is told by its own number, real services are as they
//! were, and a scanner sees nothing but open ports. What psentry-trap does to the packets, a ruleset does here.

mod passes;
mod units;

use std::collections::BTreeSet;

use psentry_records::{DECOY_MARK, Kind, Probe, Proto, Record};

use crate::lab::{GUARD, Lab, Program, SCANNER, bin, complaints, wait_until, without_stats};

const MIRAGE: u16 = 61999;

/// A port that a service has, and one that an ordinary decoy has.
const SERVICE: u16 = 8080;
const DECOY: u16 = 2323;

/// Hands the mirage what comes to this host and has no socket; not what comes from this host itself, nor answers that
/// come late. Of TCP, the ACK that ends a handshake by SYN cookie is one that conntrack knows, and has no socket.
const RULES: &str = "
table inet mirage {
    chain pre {
        type filter hook prerouting priority mangle
        iif lo return
        meta l4proto udp ct state established,related return
        fib daddr type != local return
        meta l4proto { tcp, udp } socket transparent { 0, 1 } return
        meta nfproto ipv4 meta l4proto { tcp, udp } tproxy ip to :61999 accept
        meta nfproto ipv6 meta l4proto { tcp, udp } tproxy ip6 to :61999 accept
    }
}";

struct Scene {
    lab: Lab,
    listen: Program,
    _service: Program,
}

fn scene(flags: &[&str]) -> Scene {
    let lab = Lab::new();
    let service = lab.service(SERVICE);
    let decoy = DECOY.to_string();
    let own = ["--mirage", "61999", "--tcp", &decoy];
    let listen = Program::start(lab.guard.command(bin("psentry-listen")).args(own).args(flags));
    wait_until("the mirage stands", || {
        let bound = lab.guard.read(&["ss", "-Hltun"]);
        bound.matches(&format!(":{MIRAGE} ")).count() == 2 && bound.contains(&format!(":{DECOY} "))
    });
    lab.guard.sh(&format!("nft -f - <<'RULES'\n{RULES}\nRULES"));
    Scene { lab, listen, _service: service }
}

impl Scene {
    fn send(&self, address: &str, port: u16) {
        let target = if address.contains(':') {
            format!("UDP6:[{address}]:{port}")
        } else {
            format!("UDP4:{address}:{port}")
        };
        self.lab.scanner.sh(&format!("echo hello | socat -t 0 - {target}"));
    }

    /// The next probe: each touch makes one, and no other.
    fn probe(&mut self) -> Probe {
        let is_probe = |record: &Record| matches!(record, Record::Probe(_));
        let Record::Probe(probe) = self.listen.record("probe", is_probe) else { panic!("no probe") };
        probe
    }

    /// The ports of TCP connections that the guard still has anything to do with.
    fn remains(&self) -> String {
        self.lab.guard.read(&["ss", "-Htan", "state", "connected", "exclude", "time-wait"])
    }
}

#[test]
fn whatever_is_touched_is_told_by_its_own_number() {
    let mut scene = scene(&[]);
    for (address, source) in GUARD.into_iter().zip(SCANNER) {
        for port in [1, 443, 50_000, 65_535, MIRAGE, DECOY] {
            scene.lab.scanner.touch(address, port);
            let probe = scene.probe();
            let told = (probe.common.dest_ip.unwrap().to_string(), probe.common.dest_port);
            assert_eq!(told, (address.to_owned(), Some(port)));
            assert_eq!(probe.common.src_ip.unwrap().to_string(), source);
            let how = (probe.common.proto, probe.body.kind, probe.body.handshake, probe.body.cookie);
            assert_eq!(how, (Some(Proto::Tcp), Kind::Connect, true, false), "{port}");
        }
        for port in [1, 53, 65_535, MIRAGE] {
            scene.send(address, port);
            let probe = scene.probe();
            let told = (probe.common.dest_ip.unwrap().to_string(), probe.common.dest_port);
            assert_eq!(told, (address.to_owned(), Some(port)));
            let how = (probe.common.proto, probe.body.kind, probe.body.handshake);
            assert_eq!(how, (Some(Proto::Udp), Kind::Udp, false), "{port}");
        }
    }
    let (status, rest, errors) = scene.listen.terminate();
    assert!(status.success(), "{errors:?}");
    assert_eq!(without_stats(&rest), [""; 0]);
}

#[test]
fn real_services_are_as_they_were() {
    let mut scene = scene(&[]);
    for address in GUARD {
        let target =
            if address.contains(':') { format!("TCP6:[{address}]") } else { format!("TCP4:{address}") };
        let read = format!(
            "for n in 1 2 3 4 5 6 7 8 9 10; do socat -u {target}:{SERVICE},connect-timeout=5 -; done"
        );
        assert_eq!(scene.lab.innocent.sh(&read), "hello\n".repeat(10), "{address}");
    }
    // The guard's own connections come back to its own ports, which are no probes either.
    let mut own = scene.lab.scanner.sends("TCP4-LISTEN:9090,reuseaddr", "/run/hello");
    wait_until("the other side listens", || scene.lab.scanner.read(&["ss", "-Hltn"]).contains(":9090 "));
    let answer = scene.lab.guard.sh(&format!("socat -u TCP4:{}:9090,connect-timeout=5 -", SCANNER[0]));
    assert_eq!(answer, "hello\n");
    own.end();
    let (_, probes, errors) = scene.listen.terminate();
    assert!(
        without_stats(&probes).is_empty() && complaints(&errors).is_empty(),
        "nobody touched a closed port: {probes:?} {errors:?}"
    );
}

#[test]
fn a_scanner_sees_nothing_but_open_ports_and_nothing_of_it_stays() {
    let mut scene = scene(&["--hold", "0", "--source-rate", "100000"]);
    let scan = ["nmap", "-n", "-Pn", "-sT", "-T5", "-p", "6001-9000", "-oG", "-", GUARD[0]];
    let report = scene.lab.scanner.read(&scan);
    let open = report.matches("/open/tcp/").count();
    assert!(open >= 2990, "{open} of 3000 ports look open");
    assert!(report.contains(&format!(" {SERVICE}/open/tcp/")));
    wait_until("no connection is left", || scene.remains().is_empty());
    let (status, probes, errors) = scene.listen.terminate();
    assert!(status.success(), "{errors:?}");
    let ports: BTreeSet<u16> = without_stats(&probes)
        .into_iter()
        .map(|line| match Record::parse(line).unwrap() {
            Record::Probe(probe) => probe.common.dest_port.unwrap(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(!ports.contains(&SERVICE) && !ports.contains(&MIRAGE), "only what was touched, and no service");
    assert!(ports.len() >= open - 1, "{} ports told, {open} touched", ports.len());
}

#[test]
fn connections_to_all_ports_together_are_held_up_to_the_bound() {
    let mut scene = scene(&["--capture", "9", "--hold", "600000", "--max-held", "5"]);
    let mut crowd: Vec<Program> = (0..8)
        .map(|n| {
            Program::start_fed(scene.lab.scanner.command("nc").args(["-n", GUARD[0], &format!("70{n}0")]))
        })
        .collect();
    scene.listen.complaint("--max-held");
    for _ in 0..3 {
        scene.probe();
    }
    // One that was given up is told before the kernel is through with it.
    wait_until("five are held", || scene.remains().lines().count() == 5);
    crowd.clear();
    for _ in 0..5 {
        scene.probe();
    }
}

#[test]
fn without_the_right_it_says_which() {
    let lab = Lab::new();
    let mut listen = Program::start(lab.guard.command("setpriv").args([
        "--bounding-set",
        "-net_admin,-net_raw",
        bin("psentry-listen"),
        "--mirage",
        "61999",
    ]));
    let (status, _, errors) = listen.end();
    assert_eq!(status.code(), Some(77), "{errors:?}");
    assert!(
        errors.iter().any(|line| line.contains("--mirage") && line.contains("CAP_NET_RAW")),
        "{errors:?}"
    );
}

/// What psentry-trap asks the kernel: is the socket behind this SYN a decoy's?
#[test]
fn the_kernel_knows_a_decoy_from_a_service() {
    let scene = scene(&[]);
    scene.lab.guard.sh(&format!(
        "nft -f - <<'RULES'
        table inet count {{
            counter decoys {{ }}
            chain in {{
                type filter hook input priority 0;
                tcp flags & (syn | ack) == syn socket mark {DECOY_MARK} counter name decoys
            }}
        }}\nRULES"
    ));
    let counted = || scene.lab.guard.sh("nft list counter inet count decoys");
    assert!(scene.lab.innocent.reaches(GUARD[0], SERVICE));
    assert!(counted().contains("packets 0 "), "{}", counted());
    scene.lab.scanner.touch(GUARD[0], DECOY);
    assert!(counted().contains("packets 1 "), "{}", counted());
    scene.lab.scanner.touch(GUARD[1], DECOY);
    assert!(counted().contains("packets 2 "), "{}", counted());
}
