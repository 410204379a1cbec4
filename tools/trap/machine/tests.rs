//! Machines as rtnetlink lists them, from a laptop to a router.

use proptest::prelude::*;

use super::*;

const LO: u32 = 1;

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

/// The facts of a machine, put together interface by interface. Loopback is there from the start.
struct Facts(NetworkFacts);

impl Facts {
    fn new() -> Self {
        let lo = Facts(NetworkFacts::default()).interface(LO, Kind::Loopback).forwarding(LO);
        lo.address(LO, "127.0.0.1/8").address(LO, "::1/128")
    }

    fn interface(mut self, index: u32, kind: Kind) -> Self {
        self.0.interfaces.push(Interface { index, controller: None, kind, forwards: (false, false) });
        self
    }

    fn port(mut self, index: u32, kind: Kind, controller: u32) -> Self {
        self.0.interfaces.push(Interface {
            index,
            controller: Some(controller),
            kind,
            forwards: (false, false),
        });
        self
    }

    fn forwarding(mut self, index: u32) -> Self {
        self.0.interfaces.iter_mut().filter(|i| i.index == index).for_each(|i| i.forwards = (true, true));
        self
    }

    /// Container engines do this.
    fn forwarding_everywhere(mut self) -> Self {
        self.0.interfaces.iter_mut().for_each(|interface| interface.forwards = (true, true));
        self
    }

    /// A static address, and the route that the kernel makes of it.
    fn address(mut self, interface: u32, cidr: &str) -> Self {
        let (addr, len) = cidr.split_once('/').unwrap();
        let (addr, prefix_len) = (addr.parse().unwrap(), len.parse().unwrap());
        self.0.addresses.push(Address { interface, addr, prefix_len, leased: false });
        if !prefix(cidr).is_host() {
            self = self.route(interface, cidr);
        }
        self
    }

    fn leased(self, interface: u32, cidr: &str) -> Self {
        let mut facts = self.address(interface, cidr);
        facts.0.addresses.last_mut().unwrap().leased = true;
        facts
    }

    fn route(mut self, interface: u32, destination: &str) -> Self {
        self.0.routes.push(Route { interface, destination: prefix(destination) });
        self
    }

    fn own(&self) -> Vec<String> {
        self.machine().own_networks.iter().map(ToString::to_string).collect()
    }

    fn inside(&self) -> Vec<String> {
        self.machine().inside_networks.iter().map(ToString::to_string).collect()
    }

    fn machine(&self) -> Machine {
        machine(&self.0, (32768, 60999))
    }
}

/// Two uplinks, each with a lease; on IPv6 an address by DHCPv6 beside the one that it made itself.
fn laptop() -> Facts {
    Facts::new()
        .interface(2, Kind::Hardware)
        .leased(2, "192.168.1.23/24")
        .leased(2, "2001:db8:1::23/128")
        .leased(2, "2001:db8:1::a:b:c:d/64")
        .address(2, "fe80::23/64")
        .route(2, "0.0.0.0/0")
        .route(2, "::/0")
        .interface(3, Kind::Hardware)
        .leased(3, "10.20.30.40/16")
        .address(3, "fe80::24/64")
        .route(3, "0.0.0.0/0")
}

#[test]
fn a_laptop_is_in_its_networks_and_nothing_is_behind_it() {
    let laptop = laptop();
    assert_eq!(laptop.own(), ["10.20.0.0/16", "192.168.1.0/24", "2001:db8:1::/64", "fe80::/64"]);
    assert_eq!(laptop.inside(), [""; 0]);
    assert_eq!(laptop.machine().client_ports, (32768, 60999));
    // Docker, libvirt or a hotspot that was once on may have left forwarding on.
    assert_eq!(laptop.forwarding_everywhere().inside(), [""; 0]);
}

#[test]
fn a_server_with_docker_has_its_containers_inside() {
    let server = Facts::new()
        .interface(2, Kind::Hardware)
        .address(2, "198.51.100.7/32")
        .address(2, "2001:db8:7::1/64")
        .address(2, "fe80::7/64")
        .route(2, "198.51.100.1/32")
        .route(2, "0.0.0.0/0")
        .route(2, "::/0")
        // Without any container as yet.
        .interface(3, Kind::Bridge)
        .address(3, "172.17.0.1/16")
        // One with two, and IPv6.
        .interface(4, Kind::Bridge)
        .address(4, "172.18.0.1/16")
        .address(4, "fd00:18::1/64")
        .address(4, "fe80::18/64")
        .port(5, Kind::Guest, 4)
        .port(6, Kind::Guest, 4)
        // A private network of the provider's, by DHCP.
        .interface(7, Kind::Hardware)
        .leased(7, "10.0.0.2/16")
        .forwarding_everywhere();
    assert_eq!(
        server.own(),
        ["10.0.0.0/16", "172.17.0.0/16", "172.18.0.0/16", "2001:db8:7::/64", "fd00:18::/64", "fe80::/64"]
    );
    assert_eq!(server.inside(), ["172.17.0.0/16", "172.18.0.0/16", "fd00:18::/64"]);
}

#[test]
fn pods_that_have_a_route_each_are_inside() {
    let node = Facts::new()
        .interface(2, Kind::Hardware)
        .leased(2, "10.0.0.5/24")
        .route(2, "0.0.0.0/0")
        .interface(3, Kind::Guest)
        .route(3, "10.244.1.2/32")
        .interface(4, Kind::Guest)
        .route(4, "10.244.1.3/32")
        .forwarding_everywhere();
    assert_eq!(node.inside(), ["10.244.1.2/32", "10.244.1.3/32"]);
}

/// A LAN of a bridge with hardware in it, a VPN whose clients it serves, and a network behind a router on the LAN.
fn router() -> Facts {
    Facts::new()
        .interface(2, Kind::Hardware)
        .leased(2, "203.0.113.9/24")
        .route(2, "0.0.0.0/0")
        .route(2, "2000::/3")
        .interface(3, Kind::Bridge)
        .port(4, Kind::Hardware, 3)
        .port(5, Kind::Hardware, 3)
        .address(3, "192.168.1.1/24")
        // Delegated by the provider, for a limited time.
        .leased(3, "2001:db8:9::1/64")
        .address(3, "fe80::1/64")
        .route(3, "192.168.50.0/24")
        .interface(6, Kind::Other)
        .address(6, "10.8.0.1/24")
}

#[test]
fn a_router_has_its_lan_inside_and_the_other_side_outside() {
    let router = router().forwarding_everywhere();
    assert_eq!(
        router.own(),
        ["10.8.0.0/24", "192.168.1.0/24", "203.0.113.0/24", "2001:db8:9::/64", "fe80::/64"]
    );
    assert_eq!(router.inside(), ["10.8.0.0/24", "192.168.1.0/24", "192.168.50.0/24", "2001:db8:9::/64"]);
}

#[test]
fn who_forwards_nothing_is_no_gateway() {
    assert_eq!(router().inside(), [""; 0]);
    assert_eq!(router().forwarding(6).inside(), ["10.8.0.0/24"]);
    let mut ipv6_only = router();
    ipv6_only.0.interfaces.iter_mut().for_each(|interface| interface.forwards = (false, true));
    assert_eq!(ipv6_only.inside(), ["2001:db8:9::/64"]);
}

#[test]
fn a_bridge_that_is_the_uplink_is_outside() {
    // Proxmox: guests and the LAN share the first bridge; the second one is the guests' own.
    let host = Facts::new()
        .interface(2, Kind::Bridge)
        .port(3, Kind::Hardware, 2)
        .port(4, Kind::Guest, 2)
        .address(2, "192.0.2.10/24")
        .route(2, "0.0.0.0/0")
        .interface(5, Kind::Bridge)
        .port(6, Kind::Guest, 5)
        .address(5, "10.10.10.1/24")
        // And a third one for storage, with a cable.
        .interface(7, Kind::Bridge)
        .port(8, Kind::Hardware, 7)
        .address(7, "10.99.0.10/24");
    assert_eq!(host.inside(), ["10.10.10.0/24"]);
    assert_eq!(host.own(), ["10.10.10.0/24", "10.99.0.0/24", "192.0.2.0/24"]);
}

#[test]
fn a_container_is_not_its_own_guest() {
    let container = Facts::new()
        .interface(2, Kind::Guest)
        .address(2, "172.17.0.5/16")
        .route(2, "0.0.0.0/0")
        .forwarding_everywhere();
    assert_eq!((container.own(), container.inside()), (vec!["172.17.0.0/16".to_owned()], vec![]));
}

#[test]
fn without_a_default_route_nothing_is_inside() {
    let island = Facts::new()
        .interface(2, Kind::Guest)
        .address(2, "203.0.113.1/24")
        .interface(3, Kind::Bridge)
        .address(3, "172.17.0.1/16")
        .forwarding_everywhere();
    assert_eq!(island.inside(), [""; 0]);
}

#[test]
fn a_vpn_for_everything_is_an_uplink_beside_the_other() {
    let vpn = laptop()
        .interface(9, Kind::Other)
        .address(9, "10.64.0.2/16")
        .route(9, "0.0.0.0/1")
        .route(9, "128.0.0.0/1")
        .forwarding_everywhere();
    assert_eq!(vpn.inside(), [""; 0]);
}

#[test]
fn a_network_is_never_wider_than_may_be_listed() {
    let odd =
        Facts::new().interface(2, Kind::Hardware).address(2, "10.1.2.3/4").address(2, "2002:c000:207::1/16");
    assert_eq!(odd.own(), ["10.0.0.0/8", "2002:c000::/32"]);
}

/// A router that has a route for every network of the Internet: compared one with another they would take hours.
#[test]
fn a_million_routes_are_listed() {
    let routes = (0..1_000_000u32).map(|n| Prefix::around(IpAddr::from((n << 9).to_be_bytes()), 24));
    assert_eq!(outermost(routes).len(), 1_000_000);
}

proptest! {
    /// No network of a list contains another one, and each that was given is in one of them.
    #[test]
    fn only_the_outermost_networks_are_listed(
        given in proptest::collection::vec((any::<u32>(), 0..=32u8), 0..20)
    ) {
        // Few bits vary, so that networks do contain each other.
        let given: Vec<Prefix> =
            given.into_iter().map(|(addr, len)| Prefix::around(IpAddr::from((addr & 0xc000_0003).to_be_bytes()), len)).collect();
        let listed = outermost(given.iter().copied());
        for (at, network) in listed.iter().enumerate() {
            prop_assert!(listed.iter().enumerate().all(|(other, n)| other == at || !n.overlaps(*network)));
        }
        for network in given {
            prop_assert!(listed.iter().any(|outer| outer.contains(network.addr()) && outer.len() <= network.len()));
        }
    }
}
