//! What machines say by habit on their own network is counted, and nothing more: NAT-PMP, SSDP, LLMNR and their like. From
//! elsewhere the same is a probe, but for what has its own port at both ends.

use super::{counter, probe, probes, python, quarantined, trap, unseen};
use crate::lab::{GUARD, INNOCENT, Lab, SCANNER};

/// The guard as the innocent's router.
const ROUTER: &str = "192.0.2.1";

/// Datagrams from an address and a port (0: any) to ports. Arguments: address from, port from, address to, ports.
const SAY: &str = r#"
import socket, sys
def at(address, port): return socket.getaddrinfo(address, int(port), type=socket.SOCK_DGRAM)[0]
family, *_, place = at(*sys.argv[1:3])
s = socket.socket(family, socket.SOCK_DGRAM)
s.bind(place)
for port in sys.argv[4:]:
    try: s.sendto(b'\0\0', at(sys.argv[3], port)[4])
    except ConnectionRefusedError: pass
"#;

/// The router has no NAT-PMP: its kernel says so at once, and the client asks no more.
#[test]
fn a_client_that_asks_its_router_for_ports_is_no_scanner() {
    let lab = Lab::new();
    let _service = lab.service(8088);
    let mut trap = trap(&lab, &[]);
    let asked = lab.innocent.run(&["timeout", "20", "natpmpc", "-g", ROUTER]);
    let said = String::from_utf8_lossy(&asked.stderr);
    assert!(said.contains("the gateway does not support nat-pmp"), "{said}");
    assert!(lab.innocent.reaches(GUARD[0], 8088));
    let (_, lines, errors) = trap.terminate();
    assert!(counter(&lines, "chatter") >= 1 && counter(&lines, "seen") == 0, "{errors:?}");
}

#[test]
fn what_machines_say_by_habit_is_only_counted() {
    let lab = Lab::new();
    let trap = trap(&lab, &[]);
    let ports = ["1900", "3702", "5355", "57621", "138", "5350", "17500", "21027"];
    python(&lab.innocent, SAY, &[&[INNOCENT[0], "0", GUARD[0]][..], &ports].concat());
    // A link-local network is near, too.
    lab.innocent.sh("ip address add fe80::78/64 dev eth0 nodad");
    lab.guard.sh("ip neigh add fe80::78 lladdr 02:00:00:00:08:02 dev innocent");
    let from = ["fe80::78%eth0", "0", "fe80::1%eth0"];
    python(&lab.innocent, SAY, &[&from[..], &ports].concat());
    unseen(trap);
}

/// An address that is on no network of the guard's.
const FAR: [&str; 2] = ["198.18.7.7", "2001:db8:7:7::7"];

#[test]
fn from_elsewhere_only_what_has_its_own_port_at_both_ends_is_chatter() {
    let lab = Lab::new();
    for far in FAR {
        lab.scanner
            .sh(&format!("ip address add {far} dev lo{}", if far.contains(':') { " nodad" } else { "" }));
    }
    lab.guard.sh(&format!("ip route add {} via {} dev scanner", FAR[0], SCANNER[0]));
    lab.guard.sh(&format!("ip route add {} via {} dev scanner", FAR[1], SCANNER[1]));
    let mut trap = trap(&lab, &[]);
    for (far, guard) in FAR.into_iter().zip(GUARD) {
        for (from, to) in [("67", "68"), ("137", "137"), ("5353", "5353")] {
            python(&lab.scanner, SAY, &[far, from, guard, to]);
        }
    }
    assert_eq!(quarantined(&lab), [false; 2]);
    for (far, guard) in FAR.into_iter().zip(GUARD) {
        python(&lab.scanner, SAY, &[far, "0", guard, "5351"]);
        let found = probe(&mut trap, "a probe", |probe| probe.common.src_ip.unwrap().to_string() == far);
        assert_eq!((found.common.dest_port, found.body.quarantine), (Some(5351), Some(30)));
    }
    let (_, lines, _) = trap.terminate();
    assert!(probes(&lines).is_empty() && counter(&lines, "chatter") == 6, "{lines:#?}");
}
