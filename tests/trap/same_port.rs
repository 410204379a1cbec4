//! One source at one closed port, however often it asks, is one probe: it is put into quarantine once, and its quarantine
//! ends though it goes on asking.

use psentry_records::Class;

use super::load::FORGE;
use super::{counter, probe, probes, python, quarantined, trap, version};
use crate::lab::{GUARD, Host, INNOCENT, Lab, wait_until};

/// The services that a monitor asks for. The last is down.
const SERVICES: [u16; 2] = [9100, 22];
const DOWN: u16 = 3306;

/// Asks once for each service, as a monitor does: which of those that are up answer.
fn poll(monitor: &Host, guard: &str) -> [bool; 2] {
    assert!(monitor.is_shut_out(guard, DOWN));
    SERVICES.map(|port| !monitor.is_shut_out(guard, port))
}

#[test]
fn a_monitor_loses_no_service_because_of_one_that_is_down() {
    let lab = Lab::new();
    let _services = SERVICES.map(|port| lab.service(port));
    let mut trap = trap(&lab, &["--quarantine", "4s"]);
    for (guard, innocent) in GUARD.into_iter().zip(INNOCENT) {
        assert_eq!(poll(&lab.innocent, guard), [false; 2], "the first time it is in quarantine");
        wait_until("the monitor's quarantine ends", || poll(&lab.innocent, guard) == [true; 2]);
        for _ in 0..5 {
            assert_eq!(poll(&lab.innocent, guard), [true; 2]);
        }
        let ours = |probe: &psentry_records::Probe| probe.common.src_ip.unwrap().to_string() == innocent;
        let first = probe(&mut trap, "the first", ours);
        assert_eq!((first.body.class, first.body.quarantine), (Some(Class::Probe), Some(4)));
        let second = probe(&mut trap, "the second", ours);
        assert_eq!((second.body.class, second.body.quarantine), (Some(Class::Probe), None));
        // Another port is another probe.
        assert!(lab.innocent.is_shut_out(guard, DOWN + 1));
        probe(&mut trap, "another port", |probe| ours(probe) && probe.body.quarantine == Some(4));
        assert!(lab.innocent.is_shut_out(guard, SERVICES[0]));
    }
    let (_, lines, _) = trap.terminate();
    assert!(probes(&lines).iter().all(|probe| probe.body.quarantine.is_none()), "{lines:#?}");
    assert_eq!(counter(&lines, "quarantined"), 4);
}

/// Two services are down, and both were asked for before: neither renews the quarantine any more.
#[test]
fn several_closed_ports_of_one_monitor_are_as_many_probes() {
    let lab = Lab::new();
    let _service = lab.service(SERVICES[0]);
    let _trap = trap(&lab, &["--quarantine", "4s"]);
    for port in [DOWN, DOWN + 1] {
        assert!(lab.innocent.is_shut_out(GUARD[0], port));
    }
    let poll = || {
        [DOWN, DOWN + 1].iter().all(|port| lab.innocent.is_shut_out(GUARD[0], *port))
            && lab.innocent.reaches(GUARD[0], SERVICES[0])
    };
    wait_until("the monitor's quarantine ends", poll);
    assert!(poll() && poll());
}

/// A port that is served at one address of this machine and closed at another is no service that was not up yet: whoever knows
/// one would end his quarantine with it after each closed port.
#[test]
fn a_port_that_is_served_at_another_address_ends_no_quarantine() {
    let lab = Lab::new();
    lab.guard.sh("ip address add 198.51.100.2 dev lo; ip address add 2001:db8:1::2 dev lo nodad");
    for (family, other) in ["198.51.100.2", "2001:db8:1::2"].into_iter().enumerate() {
        let guard = GUARD[family];
        let bind = if family == 0 { guard.to_owned() } else { format!("[{guard}]") };
        let listen = format!("TCP{}-LISTEN:2222,bind={bind},reuseaddr,fork", [4, 6][family]);
        let _service = lab.guard.sends(&listen, "/run/hello");
        wait_until("the service answers", || lab.scanner.reaches(guard, 2222));
        let _trap = trap(&lab, &["--quarantine", "5m"]);
        // Three strays, and the fourth at the other address.
        let acks = ["nmap", "-n", "-Pn", "--max-retries", "0", "-sA", "-p", "300-302", guard];
        lab.scanner.read(&[&acks[..], version(family)].concat());
        assert!(!quarantined(&lab)[family] && lab.scanner.is_shut_out(other, 2222));
        assert!(quarantined(&lab)[family]);
        assert!(lab.scanner.is_shut_out(guard, 2222), "version {}", [4, 6][family]);
    }
}

/// Whom a forger names is remembered with a port at 200 a second at most, so that there is always room for others.
#[test]
fn forged_packets_do_not_fill_the_memory_of_ports() {
    let lab = Lab::new();
    lab.guard.sh("ip route add 198.18.0.0/15 dev scanner");
    let _trap = trap(&lab, &["--quarantine", "5m"]);
    let lasted = python(&lab.scanner, FORGE, &[GUARD[0], "23", "10000", "2000", "1"]);
    let most = 200.0 * (lasted.trim().parse::<f64>().unwrap() + 1.0);
    let listed = |set| lab.guard.read(&["nft", "list", "set", "inet", "psentry_trap", set]);
    let remembered = listed("contacts4").matches("expires").count();
    assert!(remembered >= 200 && (remembered as f64) <= most + 1.0, "{remembered} of at most {most}");
    assert_eq!(listed("quarantine4").matches("expires").count(), 10_000);
}

/// A SYN to each of twelve ports, of IPv6 each from another address of the /64. Arguments: address, first port.
const SCAN: &str = r#"
import socket, sys
guard, first = sys.argv[1], int(sys.argv[2])
sockets = []
for n in range(12):
    s = socket.socket(socket.AF_INET6 if ':' in guard else socket.AF_INET)
    if ':' in guard: s.bind((f'2001:db8:7::{0x10 + n:x}', 0))
    s.setblocking(False)
    s.connect_ex((guard, first + n))
    sockets.append(s)
"#;

/// Of one source only a few ports are remembered. So a scanner that scans once, waits until its quarantine is over, and
/// scans again, is shut out again. Of IPv6 the /64 is one source, whatever addresses it uses.
#[test]
fn a_second_scan_is_shut_out_like_the_first() {
    let lab = Lab::new();
    let _service = lab.service(SERVICES[0]);
    lab.scanner
        .sh("for n in 0 1 2 3 4 5 6 7 8 9 a b; do ip address add 2001:db8:7::1$n/64 dev eth0 nodad; done");
    let _trap = trap(&lab, &["--quarantine", "4s"]);
    for guard in GUARD {
        for scan in ["first", "second"] {
            python(&lab.scanner, SCAN, &[guard, &DOWN.to_string()]);
            assert!(lab.scanner.is_shut_out(guard, SERVICES[0]), "after the {scan} scan");
            wait_until("its quarantine is over", || lab.scanner.reaches(guard, SERVICES[0]));
        }
    }
}
