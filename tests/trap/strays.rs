//! What an honest peer may send is told of as a stray, and puts nobody into quarantine: the rest of connections that this
//! machine has forgotten, and whatever comes late to the ports of its own clients. A scan by strays is still one.

use psentry_records::Class;

use super::{probe, probes, python, quarantined, trap};
use crate::lab::{GUARD, Lab, SCANNER, wait_until};

/// Datagrams from one port to many. Arguments: address, source port, first and last port.
const DATAGRAMS: &str = r#"
import socket, sys, time
s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('', int(sys.argv[2])))
for port in range(int(sys.argv[3]), int(sys.argv[4]) + 1):
    try: s.sendto(b'an answer', (sys.argv[1], port))
    except ConnectionRefusedError: pass
"#;

/// Whether a datagram is answered by an error. Arguments: address, source port, port.
const IS_REFUSED: &str = r#"
import socket, sys
s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('', int(sys.argv[2])))
s.connect((sys.argv[1], int(sys.argv[3])))
s.settimeout(0.5)
s.send(b'an answer')
try: s.recv(1)
except ConnectionRefusedError: print('refused')
except TimeoutError: print('silence')
"#;

/// As many sources as a set of strays has room for. Argument: set.
const FORGED: &str = r#"
import subprocess, sys
one = (lambda n: f'10.1.{n >> 8}.{n & 255}') if sys.argv[1] == 'strays4' else (lambda n: f'2001:db8:a:{n:x}::')
for first in range(0, 65536, 1024):
    elements = ', '.join(map(one, range(first, first + 1024)))
    text = f"add element inet psentry_trap {sys.argv[1]} {{ {elements} }}"
    subprocess.run(['nft', '-f', '-'], input=text.encode(), check=True)
"#;

/// What has an ACK and no SYN is a stray, whatever PSH and URG say: one of a few ports is nobody's fault, and the fourth
/// makes it a scan.
#[test]
fn late_segments_are_strays_and_a_scan_by_them_is_found() {
    let lab = Lab::new();
    let mut trap = trap(&lab, &[]);
    let scan = |flags: &str, ports: &str| {
        let line = ["nmap", "-n", "-Pn", "--max-retries", "0", "-sS", "--scanflags", flags, "-p", ports];
        lab.scanner.read(&[&line[..], &[GUARD[0]]].concat());
    };
    scan("ACKPSH", "300");
    scan("ACKPSHURG", "301");
    scan("ACKPSHFIN", "302");
    for port in 300..303 {
        let stray = probe(&mut trap, "a stray", |probe| probe.common.dest_port == Some(port));
        assert_eq!((stray.body.class, stray.body.quarantine), (Some(Class::Stray), None), "{stray:?}");
    }
    assert_eq!(quarantined(&lab), [false; 2]);
    scan("ACKPSH", "303");
    let fourth = probe(&mut trap, "the fourth port", |probe| probe.common.dest_port == Some(303));
    assert_eq!((fourth.body.class, fourth.body.quarantine), (Some(Class::Stray), Some(30)));
    assert_eq!(quarantined(&lab), [true, false]);
}

/// At the ports of this machine's own clients any number of packets may be late.
#[test]
fn the_ports_of_our_own_clients_put_nobody_into_quarantine() {
    let lab = Lab::new();
    let mut trap = trap(&lab, &[]);
    for (guard, scanner) in GUARD.into_iter().zip(SCANNER) {
        python(&lab.scanner, DATAGRAMS, &[guard, "443", "40000", "40009"]);
        let last = probe(&mut trap, "the last datagram", |probe| {
            probe.common.dest_port == Some(40009) && probe.common.src_ip.unwrap().to_string() == scanner
        });
        assert_eq!((last.body.class, last.body.quarantine), (Some(Class::Stray), None));
    }
    assert_eq!(quarantined(&lab), [false; 2]);
    assert!(probes(&trap.terminate().1).is_empty());
}

/// Unbound, dnsmasq and pdns-recursor have ranges of their own, and a search by multicast is answered by unicast. A scan
/// from such a port is found at the fourth port all the same.
#[test]
fn late_answers_are_strays_at_any_port() {
    let lab = Lab::new();
    let mut trap = trap(&lab, &[]);
    for from in ["53", "123", "1900", "3702", "5353"] {
        for (family, (guard, scanner)) in GUARD.into_iter().zip(SCANNER).enumerate() {
            super::release(&lab);
            let ours = |probe: &psentry_records::Probe, port| {
                probe.common.src_ip.unwrap().to_string() == scanner && probe.common.dest_port == Some(port)
            };
            python(&lab.scanner, DATAGRAMS, &[guard, from, "1024", "1026"]);
            let third = probe(&mut trap, "the third port", |probe| ours(probe, 1026));
            assert_eq!((third.body.class, third.body.quarantine), (Some(Class::Stray), None), "{from}");
            assert!(!quarantined(&lab)[family], "{from}");
            python(&lab.scanner, DATAGRAMS, &[guard, from, "1027", "1027"]);
            let fourth = probe(&mut trap, "the fourth port", |probe| ours(probe, 1027));
            assert_eq!((fourth.body.class, fourth.body.quarantine), (Some(Class::Stray), Some(30)), "{from}");
        }
    }
}

/// An error would say at which ports of our own clients nothing listens, and so at which something does. Whoever takes a
/// port for late answers learns that no more than others, though no record is written of him.
#[test]
fn no_datagram_to_the_ports_of_our_own_clients_is_answered() {
    let lab = Lab::new();
    for answer in ["drop", "reject"] {
        let mut trap = trap(&lab, &["--answer", answer, "--except", "9"]);
        for (guard, scanner) in GUARD.into_iter().zip(SCANNER) {
            let ask = |from: &str, port: &str| python(&lab.scanner, IS_REFUSED, &[guard, from, port]);
            for from in ["53", "123", "1900", "3702", "5353"] {
                assert_eq!(ask(from, "9"), "refused\n", "what is no trap is answered");
                assert_eq!(ask(from, "40000"), "silence\n", "{from} of {scanner}, --answer {answer}");
            }
            assert_eq!(ask("443", "40001"), "silence\n", "--answer {answer}");
        }
        let (_, lines, _) = trap.terminate();
        assert!(probes(&lines).iter().all(|probe| probe.common.dest_port == Some(40001)), "{lines:#?}");
    }
}

/// Four siblings that are down, and a monitor that asks for them every minute.
#[test]
fn the_fourth_port_again_puts_nobody_into_quarantine_again() {
    let lab = Lab::new();
    let mut trap = trap(&lab, &["--quarantine", "2s"]);
    for (family, (guard, scanner)) in GUARD.into_iter().zip(SCANNER).enumerate() {
        let ours = |probe: &psentry_records::Probe| {
            probe.common.src_ip.unwrap().to_string() == scanner && probe.common.dest_port == Some(1027)
        };
        for quarantine in [Some(2), None, None] {
            python(&lab.scanner, DATAGRAMS, &[guard, "53", "1024", "1027"]);
            assert_eq!(probe(&mut trap, "the fourth port", ours).body.quarantine, quarantine);
            // Whom a forger names takes no more room.
            let ports = lab.guard.read(&[
                "nft",
                "list",
                "set",
                "inet",
                "psentry_trap",
                ["stray_ports4", "stray_ports6"][family],
            ]);
            assert_eq!(ports.matches("expires").count(), 3, "{ports}");
            wait_until("the quarantine is over", || !quarantined(&lab)[family]);
            // A minute later.
            for set in ["strays4", "strays6", "stray_ports4", "stray_ports6"] {
                lab.guard.read(&["nft", "flush", "set", "inet", "psentry_trap", set]);
            }
        }
    }
}

/// Forged strays of so many sources that there is no room for others: these are not answered, so that nobody learns by
/// strays which ports are open.
#[test]
fn where_strays_are_not_counted_they_are_not_answered() {
    let lab = Lab::new();
    let _trap = trap(&lab, &[]);
    for (family, guard) in GUARD.into_iter().enumerate() {
        let ask = |port: &str| python(&lab.scanner, IS_REFUSED, &[guard, "53", port]);
        assert_eq!(ask("1024"), "refused\n");
        super::release(&lab);
        python(&lab.guard, FORGED, &[["strays4", "strays6"][family]]);
        assert_eq!(["1024", "1025", "1026", "1027"].map(ask).concat(), "silence\n".repeat(4));
        assert!(!quarantined(&lab)[family]);
    }
}

/// A router has each of its networks' first address as well, which all its routers share (RFC 4291, 2.6.1). It answers
/// datagrams there as at any other, whoever sends them.
#[test]
fn the_anycast_address_of_a_router_is_one_of_its_own() {
    let lab = Lab::new();
    lab.guard.sh("echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
                  ip address add 2001:db8:1:5::1/64 dev innocent nodad");
    wait_until("it has the address", || {
        python(&lab.scanner, IS_REFUSED, &["2001:db8:1:5::", "4000", "300"]) == "refused\n"
    });
    let mut trap = trap(&lab, &["--quarantine", "5m"]);
    // Closed to whoever is not in quarantine, and to who is.
    for port in ["301", "302"] {
        assert_eq!(
            python(&lab.scanner, IS_REFUSED, &["2001:db8:1:5::", "4000", port]),
            "silence\n",
            "{port}"
        );
        assert_eq!(quarantined(&lab), [false, true]);
    }
    let first = probe(&mut trap, "the probe", |probe| probe.common.dest_port == Some(301));
    assert_eq!((first.body.class, first.body.quarantine), (Some(Class::Probe), Some(300)));
}
