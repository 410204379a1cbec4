//! Own addresses and default gateways, asked of the kernel at the moment they matter: an address that came with
//! DHCP a second ago counts.

use std::net::IpAddr;

use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteNextHop, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::ifaddrs::getifaddrs;
use psentry_records::canonical;

use crate::error::Error;
use crate::guard::Surroundings;
use crate::netlink::Link;

/// Looks around.
///
/// # Errors
/// When the kernel does not answer: then nothing may be blocked.
pub(crate) fn look() -> Result<Surroundings, Error> {
    let doing = "list this machine's addresses";
    let mut around = Surroundings::default();
    for interface in getifaddrs().map_err(|errno| Error::Kernel { doing, errno })? {
        let Some(address) = interface.address else { continue };
        if let Some(v4) = address.as_sockaddr_in() {
            around.own.push(IpAddr::V4(v4.ip()));
        } else if let Some(v6) = address.as_sockaddr_in6() {
            around.own.push(canonical(IpAddr::V6(v6.ip())));
        }
    }
    let mut link = Link::open(NETLINK_ROUTE)?;
    // Otherwise a machine that holds every route of the Internet, or our own, sends them all.
    link.filter_dumps();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        around.gateways.extend(gateways(&mut link, family)?);
    }
    Ok(around)
}

/// The next hops of the default routes, in every table.
fn gateways(link: &mut Link, family: AddressFamily) -> Result<Vec<IpAddr>, Error> {
    let doing = "list this machine's default routes";
    let mut question = RouteMessage::default();
    question.header.address_family = family;
    question.header.kind = RouteType::Unicast;
    let answer = link
        .dump(doing, &RouteNetlinkMessage::GetRoute(question))?
        .map_err(|errno| Error::Kernel { doing, errno })?;
    let mut gateways = Vec::new();
    for message in answer {
        let RouteNetlinkMessage::NewRoute(route) = message else { continue };
        if route.header.destination_prefix_length == 0 && route.header.kind == RouteType::Unicast {
            gateways.extend(next_hops(&route.attributes));
        }
    }
    Ok(gateways)
}

fn next_hops(attributes: &[RouteAttribute]) -> Vec<IpAddr> {
    let several = |hops: &[RouteNextHop]| -> Vec<IpAddr> {
        hops.iter().flat_map(|hop| next_hops(&hop.attributes)).collect()
    };
    attributes
        .iter()
        .flat_map(|attribute| match attribute {
            RouteAttribute::Gateway(RouteAddress::Inet(v4)) | RouteAttribute::Via(RouteVia::Inet(v4)) => {
                vec![IpAddr::V4(*v4)]
            }
            RouteAttribute::Gateway(RouteAddress::Inet6(v6)) | RouteAttribute::Via(RouteVia::Inet6(v6)) => {
                vec![IpAddr::V6(*v6)]
            }
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
        let want: Vec<IpAddr> =
            ["192.0.2.1", "2001:db8::1", "192.0.2.2"].map(|a| a.parse().unwrap()).to_vec();
        assert_eq!(next_hops(&attributes), want);
    }
}
