//! A blackhole, or a route that says no, as a message to the kernel and back. The number of the routing protocol says
//! that a route is ours, its metric says when it ends. Builds and reads messages, sends none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use psentry_records::{Prefix, Timestamp};

use super::super::attributes::attribute;

/// The routing protocol of our routes, in the range that is nobody's (rtnetlink(7), `/etc/iproute2/rt_protos`).
const PROTOCOL: u8 = 158;

/// The kernel's number for the end of a route, and where the routing protocol stands in it (linux/rtnetlink.h).
const RTM_DELROUTE: u16 = 25;
const ITS_PROTOCOL: usize = 5;

// As above, for a new route: how long its prefix is, how long it is itself before its attributes, and where it leads to.
const RTM_NEWROUTE: u16 = 24;
const ITS_LENGTH: usize = 1;
const BEFORE: usize = 12;
const RTA_DST: u16 = 1;
const INET: u8 = 2;
const INET6: u8 = 10;

/// The metric of a route that ends when somebody ends it. Others have the second of their end.
const NO_END: u32 = u32::MAX;

/// One of our routes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Hole {
    pub(super) scope: Prefix,
    pub(super) metric: u32,
    /// Whether whoever sends there is told that it is prohibited.
    pub(super) told: bool,
}

impl Hole {
    pub(super) fn kind(self) -> RouteType {
        if self.told { RouteType::Prohibit } else { RouteType::BlackHole }
    }
}

/// Whether routes of this kind lead nowhere, with or without a word.
pub(super) fn leads_nowhere(kind: RouteType) -> bool {
    matches!(kind, RouteType::BlackHole | RouteType::Prohibit | RouteType::Unreachable)
}

/// The first and the last host of a scope, of a network those that are no broadcast address.
pub(super) fn hosts(scope: Prefix) -> Vec<IpAddr> {
    let (first, last) = (scope.addr(), scope.last());
    match (first, last) {
        _ if scope.is_host() => vec![first],
        (IpAddr::V4(first), IpAddr::V4(last)) if scope.len() < 31 => {
            vec![Ipv4Addr::from(u32::from(first) + 1).into(), Ipv4Addr::from(u32::from(last) - 1).into()]
        }
        (first, last) => vec![first, last],
    }
}

pub(super) fn header(family: AddressFamily) -> RouteHeader {
    RouteHeader {
        address_family: family,
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Other(PROTOCOL),
        scope: RouteScope::Universe,
        kind: RouteType::BlackHole,
        ..RouteHeader::default()
    }
}

pub(super) fn message(hole: Hole) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = header(family(hole.scope));
    message.header.kind = hole.kind();
    message.header.destination_prefix_length = hole.scope.len();
    message.attributes =
        vec![RouteAttribute::Destination(address(hole.scope)), RouteAttribute::Priority(hole.metric)];
    message
}

/// The route of ours that is gone, as the kernel tells it.
pub(super) fn deleted(header: &NetlinkHeader, body: &[u8]) -> Option<Hole> {
    // Of a million routes that a routing daemon changes none is looked at any closer.
    if header.message_type != RTM_DELROUTE || body.get(ITS_PROTOCOL) != Some(&PROTOCOL) {
        return None;
    }
    match RouteNetlinkMessage::deserialize(header, body).ok()? {
        RouteNetlinkMessage::DelRoute(route) => hole(RouteNetlinkMessage::NewRoute(route)),
        _ => None,
    }
}

/// Where a route of others that was added leads to; `None`: it is ours, or no new route.
pub(super) fn rival(header: &NetlinkHeader, body: &[u8]) -> Option<Prefix> {
    let (family, len) = (*body.first()?, *body.get(ITS_LENGTH)?);
    if header.message_type != RTM_NEWROUTE || body.get(ITS_PROTOCOL) == Some(&PROTOCOL) {
        return None;
    }
    let to = attribute(body.get(BEFORE..)?, RTA_DST)?;
    let addr: IpAddr = match (family, to.len()) {
        (INET, 4) => Ipv4Addr::from(*to.first_chunk::<4>()?).into(),
        (INET6, 16) => Ipv6Addr::from(*to.first_chunk::<16>()?).into(),
        _ => return None,
    };
    Some(Prefix::around(addr, len))
}

/// The route that a message tells of, if it is ours.
pub(super) fn hole(message: RouteNetlinkMessage) -> Option<Hole> {
    let RouteNetlinkMessage::NewRoute(route) = message else { return None };
    let ours = route.header.protocol == RouteProtocol::Other(PROTOCOL)
        && matches!(route.header.kind, RouteType::BlackHole | RouteType::Prohibit)
        && route.header.table == RouteHeader::RT_TABLE_MAIN;
    if !ours {
        return None;
    }
    let (mut addr, mut metric) = (None, NO_END);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(v4)) => addr = Some(IpAddr::V4(*v4)),
            RouteAttribute::Destination(RouteAddress::Inet6(v6)) => addr = Some(IpAddr::V6(*v6)),
            RouteAttribute::Priority(priority) => metric = *priority,
            _ => {}
        }
    }
    let scope = format!("{}/{}", addr?, route.header.destination_prefix_length).parse().ok()?;
    Some(Hole { scope, metric, told: route.header.kind == RouteType::Prohibit })
}

pub(super) fn family(scope: Prefix) -> AddressFamily {
    if scope.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn address(scope: Prefix) -> RouteAddress {
    scope.addr().into()
}

/// The second at which a block ends, as a metric. In 2106 this is full; then a block has no end here.
pub(super) fn metric(until: Option<Timestamp>) -> u32 {
    until.and_then(|until| u32::try_from(until.secs_ceil()).ok()).unwrap_or(NO_END)
}

pub(super) fn end(metric: u32) -> Option<Timestamp> {
    if metric == NO_END { None } else { Timestamp::from_secs(metric.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::Emitable;

    #[test]
    fn a_route_tells_whose_it_is_and_when_it_ends() {
        let until: Timestamp = "2026-11-22T15:04:05.5Z".parse().unwrap();
        for scope in ["192.0.2.7/32", "198.51.96.0/20", "2001:db8::/64"] {
            for until in [Some(until), None] {
                let told = scope.starts_with('2');
                let sent = Hole { scope: scope.parse().unwrap(), metric: metric(until), told };
                let read = hole(RouteNetlinkMessage::NewRoute(message(sent)));
                assert_eq!(read, Some(sent));
            }
        }
        assert_eq!(end(metric(Some(until))).unwrap().to_string(), "2026-11-22T15:04:06.000000Z");
        assert_eq!(end(metric(None)), None);
    }

    #[test]
    fn the_end_of_a_route_of_ours_is_read_and_no_other() {
        let sent = Hole { scope: "192.0.2.7/32".parse().unwrap(), metric: 5, told: false };
        let read = |kind: u16, route: RouteMessage| {
            let mut body = vec![0; route.buffer_len()];
            route.emit(&mut body);
            let mut header = NetlinkHeader::default();
            header.message_type = kind;
            deleted(&header, &body)
        };
        let mut other = message(sent);
        other.header.protocol = RouteProtocol::Static;
        assert_eq!(read(RTM_DELROUTE, message(sent)), Some(sent));
        assert_eq!(read(RTM_DELROUTE - 1, message(sent)), None);
        assert_eq!(read(RTM_DELROUTE, other), None);
    }

    #[test]
    fn where_a_new_route_of_others_leads_is_read() {
        let read = |kind: u16, route: &RouteMessage| {
            let mut body = vec![0; route.buffer_len()];
            route.emit(&mut body);
            let mut header = NetlinkHeader::default();
            header.message_type = kind;
            rival(&header, &body)
        };
        for scope in ["192.0.2.0/24", "2001:db8::/64"] {
            let scope: Prefix = scope.parse().unwrap();
            let mut route = message(Hole { scope, metric: 5, told: false });
            assert_eq!(read(RTM_NEWROUTE, &route), None, "ours");
            route.header.protocol = RouteProtocol::Static;
            assert_eq!(read(RTM_NEWROUTE, &route), Some(scope));
            assert_eq!(read(RTM_DELROUTE, &route), None);
        }
    }

    #[test]
    fn a_network_is_asked_for_at_both_ends() {
        for (scope, want) in [
            ("192.0.2.7/32", &["192.0.2.7"][..]),
            ("192.0.2.6/31", &["192.0.2.6", "192.0.2.7"]),
            ("198.51.96.0/20", &["198.51.96.1", "198.51.111.254"]),
            ("2001:db8::/64", &["2001:db8::", "2001:db8::ffff:ffff:ffff:ffff"]),
        ] {
            let got: Vec<String> = hosts(scope.parse().unwrap()).iter().map(IpAddr::to_string).collect();
            assert_eq!(got, want);
        }
    }

    #[test]
    fn routes_of_others_are_not_ours() {
        let ours = message(Hole { scope: "192.0.2.7".parse().unwrap(), metric: 5, told: false });
        let mut others = [ours.clone(), ours.clone(), ours];
        others[0].header.protocol = RouteProtocol::Static;
        others[1].header.kind = RouteType::Unicast;
        others[2].header.table = 7;
        for other in others {
            assert_eq!(hole(RouteNetlinkMessage::NewRoute(other)), None);
        }
    }
}
