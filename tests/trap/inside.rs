//! Containers and guests: what one of them tries on its host is a stray, and never costs it the world behind the host.

use psentry_records::Class;

use super::{probe, quarantined, trap};
use crate::lab::{GUARD, Host, INNOCENT, Lab, wait_until};

const SERVICE: u16 = 8088;

/// A container behind the guard, whose way to the world is the scanner's link.
fn container(lab: &Lab) -> Host {
    let container = Host::new_beside(&lab.guard);
    lab.guard.sh(&format!(
        "ip link add docker0 type bridge; ip address add 172.17.0.1/16 dev docker0; ip link set docker0 up
         ip link add veth0 type veth peer name eth0 netns {}; ip link set veth0 master docker0; ip link set veth0 up
         ip route add default via 203.0.113.7; echo 1 > /proc/sys/net/ipv4/ip_forward",
        container.pid()
    ));
    container.sh(
        "ip address add 172.17.0.2/16 dev eth0; ip link set eth0 up; ip route add default via 172.17.0.1",
    );
    container
}

#[test]
fn a_container_that_tries_its_host_keeps_its_connections_to_anywhere() {
    let lab = Lab::new();
    let container = container(&lab);
    let _service = lab.service(SERVICE);
    let _world = lab.innocent.sends("TCP-LISTEN:9000,fork", "/run/hello");
    lab.innocent.sh("ip route add 172.17.0.0/16 via 192.0.2.1");
    wait_until("the container reaches the world", || container.reaches(INNOCENT[0], 9000));
    let mut trap = trap(&lab, &[]);
    for port in [9100, 9101, 9102] {
        assert!(!container.reaches("172.17.0.1", port));
        let stray = probe(&mut trap, "a stray", |probe| probe.common.dest_port == Some(port));
        assert_eq!((stray.body.class, stray.body.quarantine), (Some(Class::Stray), None), "{stray:?}");
    }
    assert_eq!(quarantined(&lab), [false; 2]);
    assert!(container.reaches(GUARD[0], SERVICE) && container.reaches(INNOCENT[0], 9000));
    // The fourth port makes it a scan; what is behind the host is not the trap's affair even then.
    assert!(container.is_shut_out("172.17.0.1", 9103));
    assert!(container.is_shut_out(GUARD[0], SERVICE));
    assert!(container.reaches(INNOCENT[0], 9000));
}
