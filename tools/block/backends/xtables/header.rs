//! How many entries a set of ipset has, and how many rules match it, by one question over netlink: no process is started for
//! it, and no entry is sent. The kernel counts the entries for it, which takes some milliseconds for a hundred thousand.

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily, NetfilterSubsystem,
};
use nix::errno::Errno;
use psentry_kernel::{Error as Below, Link};

use super::super::attributes::{attribute, attributes};
use crate::error::Error;

// Numbers from linux/netfilter/ipset/ip_set.h.
const SUBSYSTEM: u8 = 6;
const LIST: u8 = 7;
const PROTOCOL: u16 = 1;
const NAME: u16 = 2;
const FLAGS: u16 = 6;
const DATA: u16 = 7;
const ELEMENTS: u16 = 24;
const REFERENCES: u16 = 25;

/// The oldest version of the protocol that the kernel still takes, and every kernel of the last ten years does.
const VERSION: u8 = 6;

/// No entries are to be sent.
const HEADER_ONLY: u32 = 1 << 2;

/// The flag of an attribute whose bytes are in the order of the network.
const NET_BYTEORDER: u16 = 0x4000;

/// The family and the version, before the attributes of a message.
const BEFORE: usize = 4;

/// What the kernel says of a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    /// How many entries it has that are not over.
    pub(super) entries: u32,
    /// How many rules match it.
    pub(super) references: u32,
}

/// What the kernel says of a set; `None`: there is none of that name.
pub(super) fn ask(link: &mut Link, set: &str) -> Result<Option<Header>, Error> {
    let doing = "count the entries of a set";
    let read = |_: &_, message: &[u8]| Ok(header(message));
    match link.dump_as(doing, &question(set), read)? {
        Ok(told) => Ok(told.into_iter().flatten().next()),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(Below::Refused { doing, errno }.into()),
    }
}

fn question(set: &str) -> NetfilterMessage {
    let attributes = vec![
        DefaultNla::new(PROTOCOL, vec![VERSION]),
        DefaultNla::new(NAME, [set.as_bytes(), &[0]].concat()),
        DefaultNla::new(FLAGS | NET_BYTEORDER, HEADER_ONLY.to_be_bytes().to_vec()),
    ];
    let subsys = NetfilterSubsystem::Other(SUBSYSTEM);
    let inner = NetfilterMessageInner::Other { subsys, message_type: LIST, attributes };
    NetfilterMessage::new(NetfilterHeader::new(NetfilterProtoFamily::IPv4, 0, 0), inner)
}

fn header(message: &[u8]) -> Option<Header> {
    let data = attribute(message.get(BEFORE..)?, DATA)?;
    let mut header = Header::default();
    for (kind, value) in attributes(data) {
        let number = value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        match (kind, number) {
            (ELEMENTS, Some(number)) => header.entries = number,
            (REFERENCES, Some(number)) => header.references = number,
            _ => {}
        }
    }
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::super::super::attributes::{nest, put};
    use super::*;

    #[test]
    fn the_numbers_of_a_header_are_read() {
        let mut message = vec![2, 0, 0, 0];
        put(&mut message, NAME, b"psentry4\0");
        nest(&mut message, DATA, |data| {
            put(data, 18 | NET_BYTEORDER, &1024u32.to_be_bytes());
            put(data, ELEMENTS | NET_BYTEORDER, &7u32.to_be_bytes());
            put(data, REFERENCES | NET_BYTEORDER, &1u32.to_be_bytes());
        });
        assert_eq!(header(&message), Some(Header { entries: 7, references: 1 }));
        assert_eq!(header(&[2, 0]), None);
    }
}
