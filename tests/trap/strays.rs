//! What an honest peer may send is told of as a stray, and puts nobody into quarantine: the rest of connections that this
//! machine has forgotten, and whatever comes late to the ports of its own clients. A scan by strays is still one.

use psentry_records::Class;

use super::{probe, probes, python, quarantined, trap};
use crate::lab::{GUARD, Lab, SCANNER};

/// Datagrams from one port to many. Arguments: address, source port, first and last port.
const DATAGRAMS: &str = r#"
import socket, sys, time
s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('', int(sys.argv[2])))
for port in range(int(sys.argv[3]), int(sys.argv[4]) + 1):
    try: s.sendto(b'an answer', (sys.argv[1], port))
    except ConnectionRefusedError: pass
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
