//! The requests to nftables as netlink messages. A block is an element with a timeout and a comment. Builds messages, sends
//! none; `decode.rs` reads the answers. They are written attribute by attribute, since a hundred thousand elements come at
//! a start.

use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_core::{DefaultNla, NLA_F_NESTED};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily, NetfilterSubsystem,
};
use psentry_linux::netlink_attributes::{nest, put};
use psentry_records::Timestamp;

use super::ruleset_text::TABLE;
use super::set_id::{Key, SetId};
use super::uapi::*;
use crate::block::Block;
use crate::note;

/// Room for an element with the note of a rule whose name is short, in bytes.
const ELEMENT: usize = 96;

/// The longest time that is asked for at once: a century. The kernel would take more, but not the year 9998.
pub(super) const LONGEST: Duration = Duration::from_secs(36_525 * 86_400);

/// The first message of a transaction.
pub(super) fn begin() -> NetfilterMessage {
    frame(ControlMessage::BatchBegin)
}

/// The last one.
pub(super) fn end() -> NetfilterMessage {
    frame(ControlMessage::BatchEnd)
}

/// Adds elements with their timeouts and comments.
pub(super) fn add(set: SetId, blocks: &[(Key, &Block)], now: Timestamp) -> NetfilterMessage {
    list_of(NFT_MSG_NEWSETELEM, set, blocks.iter().map(|(key, block)| element(*key, block, now)))
}

/// Adds elements without anything else, so that a deletion after it finds them whether they were there or not.
pub(super) fn add_bare(set: SetId, keys: &[Key]) -> NetfilterMessage {
    list_of(NFT_MSG_NEWSETELEM, set, keys.iter().map(|key| bare(*key)))
}

/// Deletes elements; one that is not there fails the transaction.
pub(super) fn delete(set: SetId, keys: &[Key]) -> NetfilterMessage {
    list_of(NFT_MSG_DELSETELEM, set, keys.iter().map(|key| bare(*key)))
}

/// A request that names our table: for its rules or sets, for itself, or to delete it.
pub(super) fn on_table(message_type: u8) -> NetfilterMessage {
    request(message_type, vec![table()])
}

/// A request that names a set of ours: for it, or for its elements.
pub(super) fn on_set(message_type: u8, set: SetId) -> NetfilterMessage {
    request(message_type, vec![table(), set_name(set)])
}

/// A request that names nothing: for the chains of the family `inet`, or for the generation of the ruleset of all tables.
pub(super) fn on_all(message_type: u8) -> NetfilterMessage {
    request(message_type, Vec::new())
}

/// An element with a timeout and a comment, in nft's order of attributes.
pub(super) fn element(key: Key, block: &Block, now: Timestamp) -> Vec<u8> {
    let mut element = Vec::with_capacity(ELEMENT);
    if let Some(until) = block.until {
        let left = until.since(now).min(LONGEST);
        // To the kernel 0 means: without end.
        let millis = u64::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u64::MAX).max(1);
        put(&mut element, NFTA_SET_ELEM_TIMEOUT, &millis.to_be_bytes());
    }
    put_key(&mut element, key);
    put(&mut element, NFTA_SET_ELEM_USERDATA, &userdata(&note::write(block)));
    element
}

fn bare(key: Key) -> Vec<u8> {
    let mut element = Vec::new();
    put_key(&mut element, key);
    element
}

/// Appends what the kernel compares.
fn put_key(element: &mut Vec<u8>, (scope, port): Key) {
    let mut key = match scope.addr() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    if let Some((transport, port)) = port {
        let [high, low] = port.to_be_bytes();
        // Each part of a key begins at a multiple of four bytes.
        key.extend([transport, 0, 0, 0, high, low, 0, 0]);
    }
    nest(element, NFTA_SET_ELEM_KEY, |bytes| put(bytes, NFTA_DATA_VALUE, &key));
}

/// nft's form of a comment: type, length with the final NUL, text, NUL.
fn userdata(text: &str) -> Vec<u8> {
    let mut data = vec![UDATA_COMMENT, u8::try_from(text.len() + 1).unwrap_or(u8::MAX)];
    data.extend(text.bytes().take(usize::from(u8::MAX) - 1));
    data.push(0);
    data
}

/// A message with elements of a set.
pub(super) fn list_of(
    message_type: u8,
    set: SetId,
    elements: impl IntoIterator<Item = Vec<u8>>,
) -> NetfilterMessage {
    let mut list = Vec::new();
    for element in elements {
        nest(&mut list, NFTA_LIST_ELEM, |list| list.extend_from_slice(&element));
    }
    let list = DefaultNla::new(NFTA_SET_ELEM_LIST_ELEMENTS | NLA_F_NESTED, list);
    request(message_type, vec![table(), set_name(set), list])
}

fn table() -> DefaultNla {
    DefaultNla::new(NFTA_TABLE, [TABLE.as_bytes(), &[0]].concat())
}

fn set_name(set: SetId) -> DefaultNla {
    DefaultNla::new(NFTA_SET, [set.name().as_bytes(), &[0]].concat())
}

fn request(message_type: u8, attributes: Vec<DefaultNla>) -> NetfilterMessage {
    let subsys = NetfilterSubsystem::NfTables;
    let inner = NetfilterMessageInner::Other { subsys, message_type, attributes };
    NetfilterMessage::new(NetfilterHeader::new(NetfilterProtoFamily::Inet, 0, 0), inner)
}

fn frame(message: ControlMessage) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, SUBSYSTEM.into()), message)
}

#[cfg(test)]
pub(super) mod tests {
    use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
    use psentry_records::Prefix;

    use super::*;

    pub(in super::super) fn bytes(message: NetfilterMessage) -> Vec<u8> {
        let mut message = NetlinkMessage::new(Default::default(), NetlinkPayload::InnerMessage(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes.split_off(16)
    }

    pub(in super::super) fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn an_element_is_what_nft_itself_sends() {
        // What nft 1.0.6 sends (strace -xx -e sendmsg) for
        // add element inet psentry v4_32 { 192.0.2.7 timeout 10m comment "x until 2026-11-22T15:14:05Z" }
        let want: &[&[u8]] = &[
            b"\x40\0\x01\x80",
            b"\x0c\0\x04\0\0\0\0\0\0\x09\x27\xc0",
            b"\x0c\0\x01\x80\x08\0\x01\0\xc0\0\x02\x07",
            b"\x23\0\x06\0\0\x1dx until 2026-11-22T15:14:05Z\0\0",
        ];
        let scope: Prefix = "192.0.2.7".parse().unwrap();
        let block =
            Block { until: Some(at("2026-11-22T15:14:05Z")), rule: Some("x".to_owned()), ..Block::default() };
        let got =
            bytes(add(SetId::of(scope, &block), &[((scope, None), &block)], at("2026-11-22T15:04:05Z")));
        // Before it: the family, the names of table and set, the head of the list of elements.
        let head: &[&[u8]] =
            &[b"\x01\0\0\0", b"\x0c\0\x01\0psentry\0", b"\x0a\0\x02\0v4_32\0\0\0", b"\x44\0\x03\x80"];
        assert_eq!(got, [head.concat(), want.concat()].concat());
    }

    #[test]
    fn a_port_is_what_nft_itself_sends() {
        // What nft 1.0.6 sends for add element inet t a { 1.2.3.4 . tcp . 22 timeout 10m comment "x" }
        let want: &[&[u8]] = &[b"\x14\0\x01\x80", b"\x10\0\x01\0\x01\x02\x03\x04\x06\0\0\0\0\x16\0\0"];
        let scope: Prefix = "1.2.3.4".parse().unwrap();
        let got = bytes(delete(SetId::all(scope)[1], &[(scope, Some((6, 22)))]));
        assert!(got.ends_with(&want.concat()), "{got:?}");
    }
}
