//! Interfaces, addresses and routes, as the kernel lists them over rtnetlink (rtnetlink(7)). What follows from them is in
//! `machine.rs`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader, NlasIterator};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use psentry_linux::{Error, NetlinkSocket};
use psentry_records::Prefix;

use crate::machine::{Address, Interface, Kind, NetworkFacts, Route};

/// Reads the facts anew.
///
/// # Errors
/// The kernel does not answer.
pub(crate) fn read() -> Result<NetworkFacts, Error> {
    let mut link = NetlinkSocket::open(NETLINK_ROUTE)?;
    let interfaces = {
        let doing = "list this machine's interfaces";
        let question = RouteNetlinkMessage::GetLink(LinkMessage::default());
        // Read here, since a newer kernel may know attributes that the crate refuses, and four are needed.
        let answer = link.dump_with(doing, &question, |_, payload| Ok(interface(payload)))?;
        answer.map_err(|errno| Error::Refused { doing, errno })?
    };
    let addresses = {
        let doing = "list this machine's addresses";
        let question = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answer = link.dump(doing, &question)?;
        answer.map_err(|errno| Error::Refused { doing, errno })?
    };
    let mut facts = NetworkFacts {
        interfaces: interfaces.into_iter().flatten().collect(),
        addresses: addresses.iter().filter_map(address).collect(),
        routes: Vec::new(),
    };
    // Otherwise the kernel sends local and broadcast routes, and blackholes, too.
    link.set_strict_check();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let doing = "list this machine's routes";
        let mut question = RouteMessage::default();
        question.header.address_family = family;
        question.header.kind = RouteType::Unicast;
        let answer = link.dump_with(doing, &RouteNetlinkMessage::GetRoute(question), routes)?;
        let answer = answer.map_err(|errno| Error::Refused { doing, errno })?;
        facts.routes.extend(answer.into_iter().flatten());
    }
    Ok(facts)
}

/// The length of `struct ifinfomsg` (linux/rtnetlink.h).
const IFINFOMSG: usize = 16;

/// The length and the type of an attribute (linux/netlink.h).
const NLA_HEADER: usize = 4;

/// Attributes of an interface (linux/if_link.h), and those nested in them.
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_AF_SPEC: u16 = 26;
const AF_INET: u16 = 2;
const IFLA_INET_CONF: u16 = 1;
const AF_INET6: u16 = 10;
const IFLA_INET6_CONF: u16 = 2;

/// Where in the kernel's array of settings (linux/ip.h, linux/ipv6.h) stands whether an interface forwards. Those of
/// IPv4 are numbered from 1.
const IPV4_DEVCONF_FORWARDING: usize = 0;
const DEVCONF_FORWARDING: usize = 0;

/// Types of interfaces (linux/if_arp.h).
const ARPHRD_ETHER: u16 = 1;
const ARPHRD_LOOPBACK: u16 = 772;

/// Reads the message of an interface; `None` if it is too short to be one.
fn interface(message: &[u8]) -> Option<Interface> {
    let (header, attributes) = message.split_at_checked(IFINFOMSG)?;
    let hardware_type = u16::from_ne_bytes(*header.get(2..)?.first_chunk()?);
    let index = u32::from_ne_bytes(*header.get(4..)?.first_chunk()?);
    let kind_name = attribute(attributes, IFLA_LINKINFO).and_then(|info| attribute(info, IFLA_INFO_KIND));
    let forwards = |family: u16, settings: u16, at: usize| {
        let settings = attribute(attributes, IFLA_AF_SPEC)
            .and_then(|families| attribute(families, family))
            .and_then(|family| attribute(family, settings));
        settings.and_then(|settings| number(settings.get(at * 4..)?)).is_some_and(|setting| setting != 0)
    };
    Some(Interface {
        index,
        controller: attribute(attributes, IFLA_MASTER).and_then(number),
        kind: kind(kind_name, hardware_type),
        forwards: (
            forwards(AF_INET, IFLA_INET_CONF, IPV4_DEVCONF_FORWARDING),
            forwards(AF_INET6, IFLA_INET6_CONF, DEVCONF_FORWARDING),
        ),
    })
}

/// What is at the other end, by the name of the driver (`ip -details link` shows it). Hardware has none.
fn kind(name: Option<&[u8]>, hardware_type: u16) -> Kind {
    let name = name.map(|name| name.strip_suffix(b"\0").unwrap_or(name));
    match name {
        None if hardware_type == ARPHRD_LOOPBACK => Kind::Loopback,
        None | Some(b"bond" | b"team" | b"vlan") => Kind::Hardware,
        Some(b"bridge") => Kind::Bridge,
        Some(b"veth") => Kind::Guest,
        // Of the two kinds of "tun" the one with Ethernet is a tap, the network card of a virtual machine.
        Some(b"tun") if hardware_type == ARPHRD_ETHER => Kind::Guest,
        Some(_) => Kind::Other,
    }
}

/// The value of the first attribute of this type. The two highest bits of a type are flags (linux/netlink.h).
fn attribute(attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut attributes = NlasIterator::new(attributes).map_while(Result::ok);
    let found = attributes.find(|attribute| attribute.kind() == wanted)?;
    let length = found.length().into();
    found.into_inner().get(NLA_HEADER..length)
}

fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// Reads an address. IFA_ADDRESS is the peer's where there is one, and then the prefix is around that.
fn address(message: &RouteNetlinkMessage) -> Option<Address> {
    let RouteNetlinkMessage::NewAddress(message) = message else { return None };
    let addr = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(addr) => Some(*addr),
        _ => None,
    });
    Some(Address {
        interface: message.header.index,
        addr: addr?,
        prefix_len: message.header.prefix_len,
        leased: !message.header.flags.contains(AddressHeaderFlags::Permanent),
    })
}

/// Reads a route; one with several next hops gives several.
fn routes(header: &NetlinkHeader, payload: &[u8]) -> Result<Vec<Route>, String> {
    let message = RouteNetlinkMessage::deserialize(header, payload).map_err(|error| error.to_string())?;
    let RouteNetlinkMessage::NewRoute(route) = message else { return Ok(Vec::new()) };
    // An old kernel does not filter.
    if route.header.kind != RouteType::Unicast {
        return Ok(Vec::new());
    }
    let destination = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Destination(RouteAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    });
    // A default route has no destination.
    let destination = destination.unwrap_or(match route.header.address_family {
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => Ipv4Addr::UNSPECIFIED.into(),
    });
    let destination = Prefix::around(destination, route.header.destination_prefix_length);
    let interfaces = route.attributes.iter().flat_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => vec![*index],
        RouteAttribute::MultiPath(hops) => hops.iter().map(|hop| hop.interface_index).collect(),
        _ => Vec::new(),
    });
    Ok(interfaces.map(|interface| Route { interface, destination }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_found_with_its_addresses() {
        let facts = read().unwrap();
        let lo = facts.interfaces.iter().find(|interface| interface.kind == Kind::Loopback).unwrap();
        let address = facts.addresses.iter().find(|address| address.interface == lo.index).unwrap();
        assert!(address.addr.is_loopback() && !address.leased, "{facts:?}");
    }

    /// The message of a tap that is a port of interface 3, and forwards IPv6 alone.
    #[test]
    fn an_interface_is_read_or_passed_over() {
        let attribute = |kind: u16, value: &[u8]| {
            let mut bytes = u16::try_from(value.len() + 4).unwrap().to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let inet = attribute(AF_INET, &attribute(IFLA_INET_CONF, &[0; 8]));
        let inet6 = attribute(AF_INET6, &attribute(IFLA_INET6_CONF, &[1u32.to_ne_bytes(), [0; 4]].concat()));
        let mut message = vec![0; IFINFOMSG];
        message[2..4].copy_from_slice(&ARPHRD_ETHER.to_ne_bytes());
        message[4..8].copy_from_slice(&7u32.to_ne_bytes());
        message.extend(attribute(IFLA_MASTER, &3u32.to_ne_bytes()));
        message.extend(attribute(IFLA_LINKINFO, &attribute(IFLA_INFO_KIND, b"tun\0")));
        message.extend(attribute(IFLA_AF_SPEC, &[inet, inet6].concat()));
        let want = Interface { index: 7, controller: Some(3), kind: Kind::Guest, forwards: (false, true) };
        assert_eq!(interface(&message), Some(want));
        assert_eq!(interface(&message[..IFINFOMSG - 1]), None);
        let bare = Interface { index: 7, controller: None, kind: Kind::Hardware, forwards: (false, false) };
        assert_eq!(interface(&message[..IFINFOMSG]), Some(bare));
    }
}
