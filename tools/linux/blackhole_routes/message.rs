//! Blackhole routes as messages to the kernel and back. The number of the routing protocol says that a route is ours, its
//! metric says when it ends. Builds and reads messages, sends none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::NetlinkHeader;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use psentry_records::{Prefix, Timestamp};

use crate::netlink_attributes::attribute;

/// The routing protocol of our routes, in the range that is nobody's (rtnetlink(7), `/etc/iproute2/rt_protos`).
const PROTOCOL: u8 = 158;

// What is read of notifications byte by byte: a routing daemon may change a million routes. The numbers of the messages, where
// `struct rtmsg` has the length of the destination and the protocol, how long it is, and its attribute of the destination
// (linux/rtnetlink.h).
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_DST_LEN: usize = 1;
const RTM_PROTOCOL: usize = 5;
const RTMSG_LEN: usize = 12;
const RTA_DST: u16 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// The metric of a route without end. Others have the second of their end.
const NO_END: u32 = u32::MAX;

/// One of our routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Blackhole {
    /// Where to.
    pub scope: Prefix,
    /// Its metric, which says when it ends.
    pub metric: u32,
    /// Whoever sends there gets the answer that it is prohibited.
    pub reject: bool,
}

/// Which routes a notification is about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RouteNotification {
    /// One of ours.
    Ours,
    /// One of others to this destination, whether it came or went.
    Others(Prefix),
}

impl Blackhole {
    /// A route that ends then; `None`: it does not end.
    #[must_use]
    pub fn new(scope: Prefix, until: Option<Timestamp>, reject: bool) -> Self {
        Blackhole { scope, metric: metric(until), reject }
    }

    /// When it ends.
    #[must_use]
    pub fn until(self) -> Option<Timestamp> {
        if self.metric == NO_END { None } else { Timestamp::from_secs(self.metric.into()) }
    }

    fn kind(self) -> RouteType {
        if self.reject { RouteType::Prohibit } else { RouteType::BlackHole }
    }
}

/// Whether packets on routes of this kind go nowhere, with or without an answer.
pub(crate) fn is_dead_end(kind: RouteType) -> bool {
    matches!(kind, RouteType::BlackHole | RouteType::Prohibit | RouteType::Unreachable)
}

/// The first and the last host of a scope, of a network those that are no broadcast address.
pub(crate) fn hosts(scope: Prefix) -> Vec<IpAddr> {
    let (first, last) = (scope.addr(), scope.last());
    match (first, last) {
        _ if scope.is_host() => vec![first],
        (IpAddr::V4(first), IpAddr::V4(last)) if scope.len() < 31 => {
            vec![Ipv4Addr::from(u32::from(first) + 1).into(), Ipv4Addr::from(u32::from(last) - 1).into()]
        }
        (first, last) => vec![first, last],
    }
}

/// The request for all routes of one family; the kernel filters by these fields, see `NetlinkSocket::set_strict_check`.
pub(crate) fn dump(family: AddressFamily) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = header(family);
    message.header.kind = RouteType::Unspec;
    message
}

/// The request for the route by which a packet to this address would leave.
pub(crate) fn lookup(addr: IpAddr) -> RouteMessage {
    let host = Prefix::host(addr);
    let mut message = RouteMessage::default();
    message.header.address_family = family(host);
    message.header.destination_prefix_length = host.len();
    message.attributes = vec![RouteAttribute::Destination(addr.into())];
    message
}

/// One of our routes, to be added.
pub(crate) fn encode(route: Blackhole) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = header(family(route.scope));
    message.header.kind = route.kind();
    message.header.destination_prefix_length = route.scope.len();
    let to = RouteAttribute::Destination(route.scope.addr().into());
    message.attributes = vec![to, RouteAttribute::Priority(route.metric)];
    message
}

/// One of our routes to a scope, to be deleted: the one with this metric, or `None`: any of them.
pub(crate) fn encode_deletion(scope: Prefix, metric: Option<u32>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = header(family(scope));
    // To a deletion these two mean "whichever".
    message.header.kind = RouteType::Unspec;
    message.header.scope = RouteScope::NoWhere;
    message.header.destination_prefix_length = scope.len();
    message.attributes = vec![RouteAttribute::Destination(scope.addr().into())];
    message.attributes.extend(metric.map(RouteAttribute::Priority));
    message
}

fn header(family: AddressFamily) -> RouteHeader {
    RouteHeader {
        address_family: family,
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Other(PROTOCOL),
        scope: RouteScope::Universe,
        kind: RouteType::BlackHole,
        ..RouteHeader::default()
    }
}

/// The route that a message describes, if it is ours.
pub(crate) fn decode(message: RouteNetlinkMessage) -> Option<Blackhole> {
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
    Some(Blackhole { scope, metric, reject: route.header.kind == RouteType::Prohibit })
}

/// What a notification is about, by its header and its body; `None`: no route, or a default route, than which every block is more specific.
#[must_use]
pub fn decode_notification(header: &NetlinkHeader, body: &[u8]) -> Option<RouteNotification> {
    if ![RTM_NEWROUTE, RTM_DELROUTE].contains(&header.message_type) {
        return None;
    }
    if body.get(RTM_PROTOCOL) == Some(&PROTOCOL) {
        return Some(RouteNotification::Ours);
    }
    let to = attribute(body.get(RTMSG_LEN..)?, RTA_DST)?;
    let addr: IpAddr = match (*body.first()?, to.len()) {
        (AF_INET, 4) => Ipv4Addr::from(*to.first_chunk::<4>()?).into(),
        (AF_INET6, 16) => Ipv6Addr::from(*to.first_chunk::<16>()?).into(),
        _ => return None,
    };
    Some(RouteNotification::Others(Prefix::around(addr, *body.get(RTM_DST_LEN)?)))
}

fn family(scope: Prefix) -> AddressFamily {
    if scope.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// The second at which a block ends, as a metric. From 2106 on there is none, and a block has no end here.
#[must_use]
pub fn metric(until: Option<Timestamp>) -> u32 {
    until.and_then(|until| u32::try_from(until.secs_ceil()).ok()).unwrap_or(NO_END)
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::Emitable;

    #[test]
    fn a_route_says_whose_it_is_and_when_it_ends() {
        let until: Timestamp = "2026-11-22T15:04:05.5Z".parse().unwrap();
        for scope in ["192.0.2.7/32", "198.51.96.0/20", "2001:db8::/64"] {
            for until in [Some(until), None] {
                let reject = scope.starts_with('2');
                let sent = Blackhole::new(scope.parse().unwrap(), until, reject);
                let read = decode(RouteNetlinkMessage::NewRoute(encode(sent)));
                assert_eq!(read, Some(sent));
            }
        }
        let ends = |until| Blackhole::new("192.0.2.7".parse().unwrap(), until, false).until();
        assert_eq!(ends(Some(until)).unwrap().to_string(), "2026-11-22T15:04:06.000000Z");
        assert_eq!(ends(None), None);
    }

    #[test]
    fn a_notification_says_whose_route_and_where_to() {
        let read = |kind: u16, route: &RouteMessage| {
            let mut body = vec![0; route.buffer_len()];
            route.emit(&mut body);
            let mut header = NetlinkHeader::default();
            header.message_type = kind;
            decode_notification(&header, &body)
        };
        for scope in ["192.0.2.0/24", "2001:db8::/64"] {
            let scope: Prefix = scope.parse().unwrap();
            let mut route = encode(Blackhole { scope, metric: 5, reject: false });
            for kind in [RTM_NEWROUTE, RTM_DELROUTE] {
                assert_eq!(read(kind, &route), Some(RouteNotification::Ours));
            }
            route.header.protocol = RouteProtocol::Static;
            for kind in [RTM_NEWROUTE, RTM_DELROUTE] {
                assert_eq!(read(kind, &route), Some(RouteNotification::Others(scope)));
            }
            assert_eq!(read(RTM_NEWROUTE - 1, &route), None);
            route.attributes.clear();
            assert_eq!(read(RTM_NEWROUTE, &route), None, "a default route");
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
        let ours = encode(Blackhole { scope: "192.0.2.7".parse().unwrap(), metric: 5, reject: false });
        let mut others = [ours.clone(), ours.clone(), ours];
        others[0].header.protocol = RouteProtocol::Static;
        others[1].header.kind = RouteType::Unicast;
        others[2].header.table = 7;
        for other in others {
            assert_eq!(decode(RouteNetlinkMessage::NewRoute(other)), None);
        }
    }
}
