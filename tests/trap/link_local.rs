//! Link-local addresses: a scanner on the same cable is put into quarantine by its address on that cable, and nobody who
//! has the same address on another one.

use psentry_records::Class;

use super::{probe, trap};
use crate::lab::Lab;

const SERVICE: u16 = 8088;

#[test]
fn a_scanner_with_a_link_local_address_is_shut_out_on_its_own_interface() {
    let lab = Lab::new();
    let _service = lab.service(SERVICE);
    for host in [&lab.scanner, &lab.innocent] {
        host.sh("ip address add fe80::77/64 dev eth0 nodad");
    }
    for (name, link) in [("scanner", "02:00:00:00:07:02"), ("innocent", "02:00:00:00:08:02")] {
        lab.guard.sh(&format!("ip neigh add fe80::77 lladdr {link} dev {name}"));
    }
    let mut trap = trap(&lab, &[]);
    let reaches = |host: &crate::lab::Host, port: u16| {
        host.ok(&["nc", "-z", "-n", "-w", "1", "-s", "fe80::77%eth0", "fe80::1%eth0", &port.to_string()])
    };
    assert!(reaches(&lab.scanner, SERVICE) && reaches(&lab.innocent, SERVICE));
    assert!(!reaches(&lab.scanner, 9));
    let found = probe(&mut trap, "its probe", |probe| probe.common.dest_port == Some(9));
    assert_eq!(found.common.src_ip.unwrap().to_string(), "fe80::77");
    assert_eq!((found.body.class, found.body.quarantine), (Some(Class::Probe), Some(30)));
    assert!(!reaches(&lab.scanner, SERVICE), "it is in quarantine");
    assert!(reaches(&lab.innocent, SERVICE), "the same address on another interface is another host");
}
