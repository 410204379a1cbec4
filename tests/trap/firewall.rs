//! A firewall of the machine's own beside the trap: which of the two sees a packet first.

use super::{probe, probes, quarantined, trap};
use crate::lab::{GUARD, Lab};

const SERVICE: u16 = 8088;

/// Lets in what stands, and two ports, one of which is served.
const FIREWALL: &str =
    "table inet firewall { chain input { type filter hook input priority filter; policy drop;
    iif lo accept; ct state established,related accept; meta l4proto { icmp, ipv6-icmp } accept
    tcp dport { 22, 8088 } accept; }; }";

#[test]
fn after_the_firewall_only_what_it_lets_in_is_trapped() {
    let lab = Lab::new();
    let _service = lab.service(SERVICE);
    lab.guard.read(&["nft", FIREWALL]);
    let mut trap = trap(&lab, &["--after-firewall"]);
    for (family, guard) in GUARD.into_iter().enumerate() {
        assert!(lab.scanner.is_shut_out(guard, 9));
        assert!(!quarantined(&lab)[family]);
        assert!(lab.scanner.reaches(guard, SERVICE));
        assert!(lab.scanner.is_shut_out(guard, 22));
        probe(&mut trap, "what was let in", |probe| {
            probe.common.dest_port == Some(22) && probe.body.quarantine == Some(30)
        });
        assert!(lab.scanner.is_shut_out(guard, SERVICE));
        // Nor does anything that the firewall drops renew the quarantine.
        assert!(lab.scanner.is_shut_out(guard, 10));
    }
    let rest = probes(&trap.terminate().1);
    assert!(rest.iter().all(|probe| probe.common.dest_port == Some(22)), "{rest:?}");
}

/// As a rule the trap comes first, and a firewall behind it makes no difference.
#[test]
fn before_the_firewall_everything_is_trapped() {
    let lab = Lab::new();
    lab.guard.read(&["nft", FIREWALL]);
    let mut trap = trap(&lab, &[]);
    assert!(lab.scanner.is_shut_out(GUARD[0], 9));
    probe(&mut trap, "a probe", |probe| probe.common.dest_port == Some(9));
    assert_eq!(quarantined(&lab), [true, false]);
}
