//! What only passes through this machine is not the trap's affair, whoever sends it: a source in quarantine loses this
//! machine's own services, and those that it publishes from containers, and nothing behind it.

use super::{quarantined, trap};
use crate::lab::{GUARD, Lab, SCANNER, wait_until};

const SERVICE: u16 = 8088;

/// The guard is the innocent's router. It listens on the same port itself: a look for a socket would find that one.
#[test]
fn a_client_in_quarantine_still_reaches_what_is_behind_the_router() {
    let lab = Lab::new();
    let _own = lab.service(SERVICE);
    let _behind =
        lab.scanner.sends(&format!("TCP6-LISTEN:{SERVICE},ipv6only=0,reuseaddr,fork"), "/run/hello");
    lab.guard.sh("echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
    for scanner in SCANNER {
        wait_until("the router forwards", || lab.innocent.reaches(scanner, SERVICE));
    }
    let _trap = trap(&lab, &[]);
    for (family, (guard, scanner)) in GUARD.into_iter().zip(SCANNER).enumerate() {
        assert!(lab.innocent.is_shut_out(guard, 9));
        assert!(quarantined(&lab)[family]);
        assert!(lab.innocent.reaches(scanner, SERVICE), "IPv{}: nothing new is forwarded", [4, 6][family]);
        lab.innocent.read(&["ping", "-n", "-c", "1", "-W", "5", scanner]);
        assert!(lab.innocent.is_shut_out(guard, SERVICE));
    }
}

/// natpmpc(1) asks the router itself, at 5351, before what it is for goes through the router.
#[test]
fn a_client_that_asks_its_router_for_ports_loses_nothing_behind_it() {
    let lab = Lab::new();
    let _behind = lab.scanner.sends(&format!("TCP-LISTEN:{SERVICE},fork"), "/run/hello");
    lab.guard.sh("echo 1 > /proc/sys/net/ipv4/ip_forward");
    wait_until("the router forwards", || lab.innocent.reaches(SCANNER[0], SERVICE));
    let _trap = trap(&lab, &[]);
    lab.innocent.run(&["timeout", "5", "natpmpc", "-g", "192.0.2.1"]);
    assert!(lab.innocent.reaches(SCANNER[0], SERVICE));
    assert_eq!(quarantined(&lab), [false; 2]);
}

#[test]
fn what_is_published_from_a_container_is_shut_as_a_service_is() {
    let lab = Lab::new();
    let _behind = lab.scanner.sends("TCP-LISTEN:80,fork", "/run/hello");
    lab.guard.sh(&format!(
        "echo 1 > /proc/sys/net/ipv4/ip_forward
         nft 'table ip nat {{ chain pre {{ type nat hook prerouting priority dstnat; tcp dport 8443 dnat to {}:80; }}; }}'",
        SCANNER[0]
    ));
    let _trap = trap(&lab, &[]);
    wait_until("the published service answers", || lab.innocent.reaches(GUARD[0], 8443));
    assert!(lab.innocent.is_shut_out(GUARD[0], 9));
    assert!(lab.innocent.is_shut_out(GUARD[0], 8443));
}

/// A cluster's services have addresses of their own, which its nodes translate: they are none of this machine's. Neither
/// are they shut to a source in quarantine, nor do they keep ports of this machine out of the trap.
#[test]
fn what_is_translated_for_somebody_else_is_only_forwarded() {
    let lab = Lab::new();
    let _behind = lab.scanner.sends("TCP6-LISTEN:80,ipv6only=0,reuseaddr,fork", "/run/hello");
    lab.guard.sh(&format!(
        "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
         nft 'table inet nat {{ chain pre {{ type nat hook prerouting priority dstnat;
              ip daddr 10.96.0.1 tcp dport 8443 dnat ip to {}:80
              ip6 daddr fd96::1 tcp dport 8443 dnat ip6 to [{}]:80
         }}; }}'",
        SCANNER[0], SCANNER[1]
    ));
    let _trap = trap(&lab, &[]);
    for (family, (guard, service)) in GUARD.into_iter().zip(["10.96.0.1", "fd96::1"]).enumerate() {
        wait_until("the service answers", || lab.innocent.reaches(service, 8443));
        assert!(lab.innocent.is_shut_out(guard, 8443));
        assert!(quarantined(&lab)[family], "IPv{}: the port is a trap", [4, 6][family]);
        assert!(lab.innocent.reaches(service, 8443), "IPv{}: nothing new is forwarded", [4, 6][family]);
    }
}
