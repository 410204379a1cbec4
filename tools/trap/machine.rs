//! What a `stats` record says of this machine: in which networks it has an address, and which networks are behind it. A
//! pure function of what rtnetlink lists; `rtnetlink.rs` reads the lists. psentry-trap(8) has the rules in words.

use std::collections::BTreeSet;
use std::net::IpAddr;

use psentry_records::{Machine, Prefix};

/// No network of IPv4 or IPv6 that is wider than this is listed. A route for more than that is a default route, or a
/// part of one, as VPNs set it (`0.0.0.0/1`, `2000::/3`).
const WIDEST: (u8, u8) = (8, 32);

/// The network of an IPv6 address: DHCPv6 leases addresses as /128, and all hosts of their /64 are neighbours.
const IPV6_NETWORK: u8 = 64;

/// What rtnetlink lists.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct NetworkFacts {
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) addresses: Vec<Address>,
    /// The unicast routes of every table.
    pub(crate) routes: Vec<Route>,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Interface {
    pub(crate) index: u32,
    /// The index of the bridge or bond of which it is a port.
    pub(crate) controller: Option<u32>,
    pub(crate) kind: Kind,
    /// Whether IPv4 and IPv6 packets that arrive there may be forwarded.
    pub(crate) forwards: (bool, bool),
}

/// What is at the other end of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// This machine itself.
    Loopback,
    /// The ports of a bridge.
    Bridge,
    /// A container or a virtual machine: a veth or a tap.
    Guest,
    /// A cable or a radio network: hardware, or a bond, team or VLAN over it.
    Hardware,
    /// Anything else, such as the peers of a tunnel.
    Other,
}

/// An address of this machine.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Address {
    pub(crate) interface: u32,
    /// Where the interface leads to one peer only, the peer's address.
    pub(crate) addr: IpAddr,
    pub(crate) prefix_len: u8,
    /// Whether it is valid for a limited time, as what DHCP and routers assign is.
    pub(crate) leased: bool,
}

/// A way by which this machine sends packets. A route with several next hops is several of these.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Route {
    pub(crate) interface: u32,
    pub(crate) destination: Prefix,
}

impl Route {
    fn is_default(&self) -> bool {
        self.destination.len() < widest(self.destination.is_ipv4())
    }
}

/// What this machine is, as a `stats` record says it.
pub(crate) fn machine(facts: &NetworkFacts, client_ports: (u16, u16)) -> Machine {
    Machine {
        own_networks: outermost(facts.addresses.iter().filter_map(own_network)),
        inside_networks: outermost(inside_networks(facts)),
        client_ports,
    }
}

/// The network around an address, if anybody else can be in it.
fn own_network(address: &Address) -> Option<Prefix> {
    let (addr, len) = (address.addr, address.prefix_len);
    let len = if addr.is_ipv4() { len } else { len.min(IPV6_NETWORK) }.max(widest(addr.is_ipv4()));
    let network = Prefix::around(addr, len);
    (!addr.is_loopback() && !network.is_host()).then_some(network)
}

/// The destinations of all routes that leave by an interface on the inside.
fn inside_networks(facts: &NetworkFacts) -> impl Iterator<Item = Prefix> {
    let uplinks: BTreeSet<u32> =
        facts.routes.iter().filter(|route| route.is_default()).map(|route| route.interface).collect();
    let inside = |route: &&Route| {
        facts
            .interfaces
            .iter()
            .filter(|interface| interface.index == route.interface)
            .any(|interface| is_inside(interface, route.destination.is_ipv4(), facts, &uplinks))
    };
    let networks: Vec<Prefix> = facts
        .routes
        .iter()
        .filter(inside)
        .map(|route| route.destination)
        .filter(|net| !is_shared(*net))
        .collect();
    networks.into_iter()
}

/// Whether what is behind an interface, of one version of IP, reaches the rest of the world through this machine.
fn is_inside(interface: &Interface, ipv4: bool, facts: &NetworkFacts, uplinks: &BTreeSet<u32>) -> bool {
    // Without a default route nothing says on which side the rest of the world is.
    if uplinks.is_empty() || uplinks.contains(&interface.index) {
        return false;
    }
    let has_hardware = || {
        let ports = facts.interfaces.iter().filter(|port| port.controller == Some(interface.index));
        ports.into_iter().any(|port| port.kind == Kind::Hardware)
    };
    match interface.kind {
        Kind::Loopback => false,
        Kind::Guest => true,
        Kind::Bridge if !has_hardware() => true,
        // Forwarding alone says little: container engines switch it on for all interfaces. But in a network in which
        // another machine gives this one its address, this one is a client, and hardly the gateway.
        Kind::Bridge | Kind::Hardware | Kind::Other => {
            let leased = facts.addresses.iter().any(|address| {
                address.interface == interface.index && address.addr.is_ipv4() && address.leased
            });
            !leased && if ipv4 { interface.forwards.0 } else { interface.forwards.1 }
        }
    }
}

/// Whether a network is on several interfaces at a time, so that it says nothing of where a source is.
fn is_shared(network: Prefix) -> bool {
    match network.addr() {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_multicast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_multicast(),
    }
}

fn widest(ipv4: bool) -> u8 {
    if ipv4 { WIDEST.0 } else { WIDEST.1 }
}

/// The networks that no other one contains, the widest first: where a list is too long for a record, its end is left
/// out.
fn outermost(networks: impl Iterator<Item = Prefix>) -> Vec<Prefix> {
    let mut networks: Vec<Prefix> = networks.collect();
    // In this order those within another one follow it. A router may have a million routes.
    networks.sort_unstable();
    let mut outermost: Vec<Prefix> = Vec::new();
    for network in networks {
        if !outermost.last().is_some_and(|outer| outer.contains(network.addr())) {
            outermost.push(network);
        }
    }
    outermost.sort_unstable_by_key(|network| (network.len(), *network));
    outermost
}

#[cfg(test)]
#[path = "machine/tests.rs"]
mod tests;
