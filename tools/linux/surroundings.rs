//! Own addresses and default gateways, asked of the kernel at the moment they matter, and resolvers: what came with DHCP
//! a second ago counts.

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteNextHop, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
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
    let mut link = Link::open(NETLINK_ROUTE)?;
    let question = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let answer = link.dump(doing, &question)?.map_err(|errno| Error::Refused { doing, errno })?;
    for message in answer {
        let RouteNetlinkMessage::NewAddress(message) = message else { continue };
        let Some((own, peer)) = ends(&message.attributes) else { continue };
        around.own.push(own);
        around.broadcasts.extend(broadcast(own, message.header.prefix_len));
        peers.extend(peer.map(|peer| (message.header.index, peer)));
    }
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

/// An own address, and the one at the other end of its link, if there is one.
fn ends(attributes: &[AddressAttribute]) -> Option<(IpAddr, Option<IpAddr>)> {
    let address = attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(canonical(*address)),
        _ => None,
    });
    let local = attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(local) => Some(canonical(*local)),
        _ => None,
    });
    // Where both are told, the first one is the other end's (linux/if_addr.h).
    let own = local.or(address)?;
    Some((own, address.filter(|address| *address != own)))
}

/// The directed broadcast address of a network, whether or not it is set on the interface.
fn broadcast(own: IpAddr, length: u8) -> Option<IpAddr> {
    let IpAddr::V4(own) = own else { return None };
    // Two hosts, or one, have no broadcast address.
    let hosts = u32::MAX.checked_shr(length.into()).filter(|_| (1..31).contains(&length))?;
    Some(Ipv4Addr::from(u32::from(own) | hosts).into())
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
    fn own_addresses_are_those_that_the_library_of_c_knows() {
        let ip = |address: &nix::sys::socket::SockaddrStorage| match (
            address.as_sockaddr_in(),
            address.as_sockaddr_in6(),
        ) {
            (Some(v4), _) => Some(IpAddr::V4(v4.ip())),
            (None, v6) => v6.map(|v6| IpAddr::V6(v6.ip())),
        };
        let known = nix::ifaddrs::getifaddrs().unwrap();
        let mut known: Vec<IpAddr> = known.filter_map(|interface| ip(interface.address.as_ref()?)).collect();
        let mut own = look().unwrap().own;
        known.sort_unstable();
        own.sort_unstable();
        assert_eq!(own, known);
    }

    #[test]
    fn the_other_end_of_a_link_is_told_from_ours() {
        let addr = |text: &str| text.parse::<IpAddr>().unwrap();
        let (ours, theirs) = (addr("192.0.2.1"), addr("192.0.2.2"));
        let (address, local) = (AddressAttribute::Address, AddressAttribute::Local);
        assert_eq!(ends(&[address(theirs), local(ours)]), Some((ours, Some(theirs))));
        assert_eq!(ends(&[address(ours), local(ours)]), Some((ours, None)));
        assert_eq!(ends(&[address(addr("2001:db8::1"))]), Some((addr("2001:db8::1"), None)));
        assert_eq!(ends(&[]), None);
    }

    #[test]
    fn a_network_of_more_than_two_has_a_broadcast_address() {
        let of = |own: &str, length| broadcast(own.parse().unwrap(), length).map(|addr| addr.to_string());
        assert_eq!(of("192.0.2.7", 24).as_deref(), Some("192.0.2.255"));
        assert_eq!(of("192.0.2.1", 30).as_deref(), Some("192.0.2.3"));
        for (own, length) in [("192.0.2.1", 31), ("192.0.2.1", 32), ("192.0.2.1", 0), ("2001:db8::1", 24)] {
            assert_eq!(of(own, length), None, "{own}/{length}");
        }
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
