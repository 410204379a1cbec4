//! Messages to ipset over netlink, and its answers (linux/netfilter/ipset/ip_set.h): no process is started for it.
//! Builds messages and reads them, sends none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{DefaultNla, NLA_F_NESTED};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily, NetfilterSubsystem,
};
use psentry_records::Prefix;

use crate::netlink_attributes::{attribute, attributes, nest, put, text};

// Numbers from linux/netfilter/ipset/ip_set.h.
const SUBSYSTEM: u8 = 6;
const LIST: u8 = 7;
const ADD: u8 = 9;
const DELETE: u8 = 10;
const PROTOCOL: u16 = 1;
const NAME: u16 = 2;
const FLAGS: u16 = 6;
const DATA: u16 = 7;
const ELEMENTS_OF: u16 = 8;

// The attributes of a set.
const SIZE: u16 = 19;
const ELEMENTS: u16 = 24;

// What makes an element.
const ADDRESS: u16 = 1;
const IPV4: u16 = 1;
const IPV6: u16 = 2;
const LENGTH: u16 = 3;
const PORT: u16 = 4;
const TIMEOUT: u16 = 6;
const TRANSPORT: u16 = 7;
const ITS_FLAGS: u16 = 8;
const COMMENT: u16 = 26;

/// The flag of a set whose elements have comments.
const WITH_COMMENT: u32 = 1 << 4;

/// The flag of an element that is an exception.
const NO_MATCH: u32 = 1 << 2;

/// The oldest version of the protocol that the kernel still takes, and every kernel of the last ten years does.
const VERSION: u8 = 6;

/// No entries are to be sent.
const HEADER_ONLY: u32 = 1 << 2;

/// The flag of an attribute whose bytes are in the order of the network.
const NET_BYTEORDER: u16 = 0x4000;

/// The family and the version, before the attributes of a message.
const BEFORE: usize = 4;

/// The longest comment that ipset takes, in bytes.
const LONGEST_COMMENT: usize = 255;

/// What the kernel says of a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetHeader {
    /// How many entries it has that are not over.
    pub entries: u32,
    /// How many entries it may have.
    pub size: u32,
    /// Its entries may have a timeout and a comment.
    pub keeps_notes: bool,
}

/// By what ipset knows an element: an address or a network, and the number of a transport with a port of it; `None`: all.
pub type SetKey = (Prefix, Option<(u8, u16)>);

/// What ipset keeps of an element.
#[derive(Clone, Debug, PartialEq)]
pub struct SetElement {
    /// By what it is known.
    pub key: SetKey,
    /// The seconds that are left; 0: for ever.
    pub seconds: u32,
    /// Its comment.
    pub comment: Option<String>,
    /// It is an exception ("nomatch"), which blocks nobody.
    pub exception: bool,
}

/// The question what the kernel says of a set.
pub(crate) fn header_of(set: &str) -> NetfilterMessage {
    message(LIST, set, Some(number(FLAGS, HEADER_ONLY)))
}

/// The question what is in a set.
pub(crate) fn list(set: &str) -> NetfilterMessage {
    message(LIST, set, None)
}

/// Adds an element, or gives the one that is there another time and comment.
pub(crate) fn add(set: &str, key: SetKey, seconds: u32, comment: &str) -> NetfilterMessage {
    let mut data = words(key, Some(seconds));
    let mut comment: Vec<u8> = comment.bytes().take(LONGEST_COMMENT).collect();
    comment.push(0);
    put(&mut data, COMMENT, &comment);
    message(ADD, set, Some(DefaultNla::new(DATA | NLA_F_NESTED, data)))
}

/// Deletes an element; without NLM_F_EXCL it need not be there.
pub(crate) fn delete(set: &str, key: SetKey) -> NetfilterMessage {
    message(DELETE, set, Some(DefaultNla::new(DATA | NLA_F_NESTED, words(key, None))))
}

/// In ipset's own order.
fn words((scope, port): SetKey, seconds: Option<u32>) -> Vec<u8> {
    let mut data = Vec::new();
    nest(&mut data, ADDRESS, |data| match scope.addr() {
        IpAddr::V4(v4) => put(data, IPV4 | NET_BYTEORDER, &v4.octets()),
        IpAddr::V6(v6) => put(data, IPV6 | NET_BYTEORDER, &v6.octets()),
    });
    put(&mut data, LENGTH, &[scope.len()]);
    if let Some((_, port)) = port {
        put(&mut data, PORT | NET_BYTEORDER, &port.to_be_bytes());
    }
    if let Some(seconds) = seconds {
        put(&mut data, TIMEOUT | NET_BYTEORDER, &seconds.to_be_bytes());
    }
    if let Some((transport, _)) = port {
        put(&mut data, TRANSPORT, &[transport]);
    }
    data
}

fn message(message_type: u8, set: &str, last: Option<DefaultNla>) -> NetfilterMessage {
    let mut attributes = vec![
        DefaultNla::new(PROTOCOL, vec![VERSION]),
        DefaultNla::new(NAME, [set.as_bytes(), &[0]].concat()),
    ];
    attributes.extend(last);
    let subsys = NetfilterSubsystem::Other(SUBSYSTEM);
    let inner = NetfilterMessageInner::Other { subsys, message_type, attributes };
    NetfilterMessage::new(NetfilterHeader::new(NetfilterProtoFamily::IPv4, 0, 0), inner)
}

fn number(kind: u16, number: u32) -> DefaultNla {
    DefaultNla::new(kind | NET_BYTEORDER, number.to_be_bytes().to_vec())
}

/// What a message says of its set; `None`: it is not the first of a list.
pub(crate) fn header(message: &[u8]) -> Option<SetHeader> {
    let data = attribute(message.get(BEFORE..)?, DATA)?;
    let mut header = SetHeader::default();
    let (mut timeout, mut comment) = (false, false);
    for (kind, value) in attributes(data) {
        let number = value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        match (kind, number) {
            (ELEMENTS, Some(number)) => header.entries = number,
            (SIZE, Some(number)) => header.size = number,
            (TIMEOUT, _) => timeout = true,
            (ITS_FLAGS, Some(flags)) => comment = flags & WITH_COMMENT != 0,
            _ => {}
        }
    }
    Some(SetHeader { keeps_notes: timeout && comment, ..header })
}

/// The elements in a message of a list.
pub(crate) fn elements(message: &[u8]) -> Vec<SetElement> {
    let of = message.get(BEFORE..).and_then(|body| attribute(body, ELEMENTS_OF)).unwrap_or_default();
    attributes(of).filter(|(kind, _)| *kind == DATA).filter_map(|(_, data)| element(data)).collect()
}

/// One of them; `None`: it has no address.
fn element(data: &[u8]) -> Option<SetElement> {
    let (mut addr, mut length, mut port, mut transport) = (None, None, None, None);
    let (mut seconds, mut comment, mut exception) = (0, None, false);
    for (kind, value) in attributes(data) {
        match kind {
            ADDRESS => addr = address(value),
            LENGTH => length = value.first().copied(),
            PORT => port = value.first_chunk().map(|bytes| u16::from_be_bytes(*bytes)),
            TRANSPORT => transport = value.first().copied(),
            TIMEOUT => seconds = u32::from_be_bytes(*value.first_chunk()?),
            ITS_FLAGS => exception = u32::from_be_bytes(*value.first_chunk()?) & NO_MATCH != 0,
            COMMENT => comment = Some(String::from_utf8_lossy(text(value)).into_owned()),
            _ => {}
        }
    }
    // As a text, so that a range of IPv6 with an address in it that looks mapped is read as one of IPv6.
    let scope = match length {
        Some(length) => format!("{}/{length}", addr?).parse().ok()?,
        None => Prefix::host(addr?),
    };
    Some(SetElement { key: (scope, transport.zip(port)), seconds, comment, exception })
}

fn address(value: &[u8]) -> Option<IpAddr> {
    attributes(value).find_map(|(kind, bytes)| match kind {
        IPV4 => Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?).into()),
        IPV6 => Some(Ipv6Addr::from(*bytes.first_chunk::<16>()?).into()),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
