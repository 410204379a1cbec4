//! Own addresses and default gateways, asked of the kernel at the moment they matter, and resolvers: what came with DHCP
//! a second ago counts.

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteNextHop, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use psentry_records::canonical;

use crate::error::Error;
use crate::netlink::Link;
use crate::resolvers;

/// A default route, or each half of one, as VPNs set it.
const WIDE: u8 = 1;

/// What stands around this machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Surroundings {
    /// The addresses of its interfaces.
    pub own: Vec<IpAddr>,
    /// The broadcast addresses of its networks.
    pub broadcasts: Vec<IpAddr>,
    /// The next hops of its default routes, and the peers at the other end of those.
    pub gateways: Vec<IpAddr>,
    /// The resolvers that it asks.
    pub resolvers: Vec<IpAddr>,
}

/// A way out of this machine.
#[derive(Debug, PartialEq)]
enum WayOut {
    /// To a next hop.
    Gateway(IpAddr),
    /// Through an interface, by its number.
    Interface(u32),
}

/// Looks around.
///
/// # Errors
/// When the kernel does not answer.
pub fn look() -> Result<Surroundings, Error> {
    let doing = "list this machine's addresses";
    let mut around = Surroundings { resolvers: resolvers::look(), ..Surroundings::default() };
    let mut peers: Vec<(u32, IpAddr)> = Vec::new();
    for interface in getifaddrs().map_err(|errno| Error::Refused { doing, errno })? {
        around.own.extend(interface.address.as_ref().and_then(ip));
        around.broadcasts.extend(broadcast(&interface));
        if interface.flags.contains(InterfaceFlags::IFF_POINTOPOINT)
            && let Some(peer) = interface.destination.as_ref().and_then(ip)
        {
            // An interface that is gone by now has no peer.
            peers.extend(if_nametoindex(&*interface.interface_name).ok().map(|index| (index, peer)));
        }
    }
    let mut link = Link::open(NETLINK_ROUTE)?;
    // Otherwise a machine that holds every route of the Internet, or our own, sends them all.
    link.filter_dumps();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        for way in ways_out(&mut link, family)? {
            match way {
                WayOut::Gateway(gateway) => around.gateways.push(gateway),
                WayOut::Interface(number) => {
                    around.gateways.extend(peers.iter().filter(|(index, _)| *index == number).map(|p| p.1));
                }
            }
        }
    }
    Ok(around)
}

fn ip(address: &nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(v4), _) => Some(IpAddr::V4(v4.ip())),
        (None, Some(v6)) => Some(canonical(IpAddr::V6(v6.ip()))),
        (None, None) => None,
    }
}

/// The directed broadcast address of an interface's network, whether or not it is set on the interface.
fn broadcast(interface: &InterfaceAddress) -> Option<IpAddr> {
    let address = interface.address.as_ref()?.as_sockaddr_in()?.ip();
    let mask = interface.netmask.as_ref()?.as_sockaddr_in()?.ip();
    let ends = u32::from(mask).trailing_zeros();
    // Two hosts, or one, have no broadcast address.
    (2..32).contains(&ends).then(|| Ipv4Addr::from(u32::from(address) | !u32::from(mask)).into())
}

/// The ways of the default routes, in every table.
fn ways_out(link: &mut Link, family: AddressFamily) -> Result<Vec<WayOut>, Error> {
    let doing = "list this machine's default routes";
    let mut question = RouteMessage::default();
    question.header.address_family = family;
    question.header.kind = RouteType::Unicast;
    let answer = link
        .dump(doing, &RouteNetlinkMessage::GetRoute(question))?
        .map_err(|errno| Error::Refused { doing, errno })?;
    let mut ways = Vec::new();
    for message in answer {
        let RouteNetlinkMessage::NewRoute(route) = message else { continue };
        if route.header.destination_prefix_length <= WIDE && route.header.kind == RouteType::Unicast {
            ways.extend(next_hops(&route.attributes));
        }
    }
    Ok(ways)
}

fn next_hops(attributes: &[RouteAttribute]) -> Vec<WayOut> {
    let several = |hops: &[RouteNextHop]| -> Vec<WayOut> {
        let hop = |hop: &RouteNextHop| {
            let mut ways = next_hops(&hop.attributes);
            ways.push(WayOut::Interface(hop.interface_index));
            ways
        };
        hops.iter().flat_map(hop).collect()
    };
    attributes
        .iter()
        .flat_map(|attribute| match attribute {
            RouteAttribute::Gateway(RouteAddress::Inet(v4)) | RouteAttribute::Via(RouteVia::Inet(v4)) => {
                vec![WayOut::Gateway(IpAddr::V4(*v4))]
            }
            RouteAttribute::Gateway(RouteAddress::Inet6(v6)) | RouteAttribute::Via(RouteVia::Inet6(v6)) => {
                vec![WayOut::Gateway(IpAddr::V6(*v6))]
            }
            RouteAttribute::Oif(number) => vec![WayOut::Interface(*number)],
            RouteAttribute::MultiPath(hops) => several(hops),
            _ => Vec::new(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_among_the_own_addresses_of_every_machine_that_has_it_up() {
        let around = look().unwrap();
        let up = getifaddrs()
            .unwrap()
            .any(|interface| interface.address.is_some_and(|a| a.as_sockaddr_in().is_some()));
        assert_eq!(up, around.own.iter().any(IpAddr::is_ipv4));
    }

    #[test]
    fn every_form_of_next_hop_is_read() {
        let mut hop = RouteNextHop::default();
        hop.attributes = vec![RouteAttribute::Gateway(RouteAddress::Inet("192.0.2.2".parse().unwrap()))];
        let attributes = [
            RouteAttribute::Gateway(RouteAddress::Inet("192.0.2.1".parse().unwrap())),
            RouteAttribute::Via(RouteVia::Inet6("2001:db8::1".parse().unwrap())),
            RouteAttribute::MultiPath(vec![hop]),
            RouteAttribute::Oif(2),
        ];
        let gateway = |addr: &str| WayOut::Gateway(addr.parse().unwrap());
        let want = [
            gateway("192.0.2.1"),
            gateway("2001:db8::1"),
            gateway("192.0.2.2"),
            WayOut::Interface(0),
            WayOut::Interface(2),
        ];
        assert_eq!(next_hops(&attributes), want);
    }
}
