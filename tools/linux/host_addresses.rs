//! The addresses that this machine depends on: its own, its default gateways, its resolvers. They are read from the
//! kernel by rtnetlink(7) and from resolv.conf(5) whenever a caller needs them, because DHCP may have changed them a
//! second ago. Nothing is cached here.

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteNextHop, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use psentry_records::canonical;

use crate::error::Error;
use crate::netlink::NetlinkSocket;
use crate::resolvers::resolvers;

/// The longest prefix of a route that counts as a default route. VPNs set two halves: 0.0.0.0/1 and 128.0.0.0/1.
pub(crate) const DEFAULT_ROUTE_LEN: u8 = 1;

/// The addresses that this machine depends on. IPv4-mapped IPv6 addresses appear as IPv4.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostAddresses {
    /// The addresses of its interfaces, loopback included.
    pub own: Vec<IpAddr>,
    /// The directed broadcast addresses of its IPv4 networks.
    pub broadcasts: Vec<IpAddr>,
    /// The next hops of the default routes in all routing tables. Of a default route through a point-to-point link it
    /// is the address of the other end.
    pub gateways: Vec<IpAddr>,
    /// The DNS resolvers that it asks, as resolv.conf(5) has them, and those behind a local stub.
    pub resolvers: Vec<IpAddr>,
}

/// Where a route leads.
#[derive(Debug, PartialEq)]
enum NextHop {
    Gateway(IpAddr),
    /// A link, by its interface index.
    Interface(u32),
}

/// Reads the addresses of this machine in the current network namespace.
///
/// # Errors
/// When the kernel refuses to list addresses or routes, or does not answer. Resolvers cause none.
pub fn host_addresses() -> Result<HostAddresses, Error> {
    let doing = "list this machine's addresses";
    let mut host = HostAddresses { resolvers: resolvers(), ..HostAddresses::default() };
    // The other ends of point-to-point links, by interface index.
    let mut peers: Vec<(u32, IpAddr)> = Vec::new();
    let mut rtnetlink = NetlinkSocket::open(NETLINK_ROUTE)?;
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let answer = rtnetlink.dump(doing, &request)?.map_err(|errno| Error::Refused { doing, errno })?;
    for message in answer {
        let RouteNetlinkMessage::NewAddress(message) = message else { continue };
        let Some((own, peer)) = own_and_peer(&message.attributes) else { continue };
        host.own.push(own);
        host.broadcasts.extend(broadcast(own, message.header.prefix_len));
        peers.extend(peer.map(|peer| (message.header.index, peer)));
    }
    // With strict checking the kernel sends unicast routes alone. Without, it also sends the blackholes of a backend
    // that blocks by routes, which may be a hundred thousand.
    rtnetlink.set_strict_check();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        for next_hop in default_routes(&mut rtnetlink, family)? {
            match next_hop {
                NextHop::Gateway(gateway) => host.gateways.push(gateway),
                NextHop::Interface(number) => {
                    host.gateways.extend(peers.iter().filter(|(index, _)| *index == number).map(|p| p.1));
                }
            }
        }
    }
    Ok(host)
}

/// The own address that an answer reports, and that of the other end if the link is point-to-point.
fn own_and_peer(attributes: &[AddressAttribute]) -> Option<(IpAddr, Option<IpAddr>)> {
    let address = attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(canonical(*address)),
        _ => None,
    });
    let local = attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(local) => Some(canonical(*local)),
        _ => None,
    });
    // On a point-to-point link IFA_ADDRESS is the other end and IFA_LOCAL our own (linux/if_addr.h).
    let own = local.or(address)?;
    Some((own, address.filter(|address| *address != own)))
}

/// The directed broadcast address of a network, whether or not it is set on the interface.
fn broadcast(own: IpAddr, length: u8) -> Option<IpAddr> {
    let IpAddr::V4(own) = own else { return None };
    // A /31 or /32 has no broadcast address; a /0 is no network.
    let hosts = u32::MAX.checked_shr(length.into()).filter(|_| (1..31).contains(&length))?;
    Some(Ipv4Addr::from(u32::from(own) | hosts).into())
}

/// The next hops of the default routes, in every routing table.
fn default_routes(rtnetlink: &mut NetlinkSocket, family: AddressFamily) -> Result<Vec<NextHop>, Error> {
    let doing = "list this machine's default routes";
    let mut request = RouteMessage::default();
    request.header.address_family = family;
    request.header.kind = RouteType::Unicast;
    let answer = rtnetlink
        .dump(doing, &RouteNetlinkMessage::GetRoute(request))?
        .map_err(|errno| Error::Refused { doing, errno })?;
    let mut hops = Vec::new();
    for message in answer {
        let RouteNetlinkMessage::NewRoute(route) = message else { continue };
        if route.header.destination_prefix_length <= DEFAULT_ROUTE_LEN
            && route.header.kind == RouteType::Unicast
        {
            hops.extend(next_hops(&route.attributes));
        }
    }
    Ok(hops)
}

fn next_hops(attributes: &[RouteAttribute]) -> Vec<NextHop> {
    let multipath = |hops: &[RouteNextHop]| -> Vec<NextHop> {
        let hop = |hop: &RouteNextHop| {
            let mut all = next_hops(&hop.attributes);
            all.push(NextHop::Interface(hop.interface_index));
            all
        };
        hops.iter().flat_map(hop).collect()
    };
    attributes
        .iter()
        .flat_map(|attribute| match attribute {
            RouteAttribute::Gateway(RouteAddress::Inet(v4)) | RouteAttribute::Via(RouteVia::Inet(v4)) => {
                vec![NextHop::Gateway(IpAddr::V4(*v4))]
            }
            RouteAttribute::Gateway(RouteAddress::Inet6(v6)) | RouteAttribute::Via(RouteVia::Inet6(v6)) => {
                vec![NextHop::Gateway(IpAddr::V6(*v6))]
            }
            RouteAttribute::Oif(number) => vec![NextHop::Interface(*number)],
            RouteAttribute::MultiPath(hops) => multipath(hops),
            _ => Vec::new(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_addresses_are_those_of_getifaddrs() {
        let ip = |address: &nix::sys::socket::SockaddrStorage| match (
            address.as_sockaddr_in(),
            address.as_sockaddr_in6(),
        ) {
            (Some(v4), _) => Some(IpAddr::V4(v4.ip())),
            (None, v6) => v6.map(|v6| IpAddr::V6(v6.ip())),
        };
        let known = nix::ifaddrs::getifaddrs().unwrap();
        let mut known: Vec<IpAddr> = known.filter_map(|interface| ip(interface.address.as_ref()?)).collect();
        let mut own = host_addresses().unwrap().own;
        known.sort_unstable();
        own.sort_unstable();
        assert_eq!(own, known);
    }

    #[test]
    fn the_other_end_of_a_point_to_point_link_is_no_own_address() {
        let addr = |text: &str| text.parse::<IpAddr>().unwrap();
        let (ours, theirs) = (addr("192.0.2.1"), addr("192.0.2.2"));
        let (address, local) = (AddressAttribute::Address, AddressAttribute::Local);
        assert_eq!(own_and_peer(&[address(theirs), local(ours)]), Some((ours, Some(theirs))));
        assert_eq!(own_and_peer(&[address(ours), local(ours)]), Some((ours, None)));
        assert_eq!(own_and_peer(&[address(addr("2001:db8::1"))]), Some((addr("2001:db8::1"), None)));
        assert_eq!(own_and_peer(&[]), None);
    }

    #[test]
    fn a_network_of_more_than_two_hosts_has_a_broadcast_address() {
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
        let gateway = |addr: &str| NextHop::Gateway(addr.parse().unwrap());
        let want = [
            gateway("192.0.2.1"),
            gateway("2001:db8::1"),
            gateway("192.0.2.2"),
            NextHop::Interface(0),
            NextHop::Interface(2),
        ];
        assert_eq!(next_hops(&attributes), want);
    }
}
