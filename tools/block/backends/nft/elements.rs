//! Elements of nft's sets as netlink messages: a block is an element with a timeout and a comment. Builds
//! messages, sends none; `reading.rs` reads the answers. What is added is written attribute by attribute, for a hundred
//! thousand of them come at a start.

use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_core::{DefaultNla, NLA_F_NESTED};
use netlink_packet_netfilter::nftables::{
    DataAttribute, ListAttribute, NfTablesMessage, SetElementAttribute, SetElementList, SetElementMessage,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily, NetfilterSubsystem,
};
use psentry_records::Timestamp;

use super::super::attributes::{nest, put};
use super::ruleset::TABLE;
use super::sets::{Key, SetId};
use crate::backend::Block;
use crate::note;

/// The number of nftables among netfilter's subsystems; the frame of a batch names it.
const SUBSYSTEM: u16 = 10;

// Numbers of messages and attributes, from linux/netfilter/nf_tables.h.
const NEW_ELEMENTS: u8 = 12;
const ITS_TABLE: u16 = 1;
const ITS_SET: u16 = 2;
const ELEMENTS: u16 = 3;
const LIST_ELEMENT: u16 = 1;
const KEY: u16 = 1;
const TIMEOUT: u16 = 4;
const USERDATA: u16 = 6;
const VALUE: u16 = 1;

/// Room for an element with the note of a rule whose name is short.
const ELEMENT: usize = 96;

/// nft's own code for a comment among the data that the kernel keeps for userspace.
pub(super) const COMMENT: u8 = 0;

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

/// Elements without anything else, so that a deletion after it finds them whether they were there or not.
pub(super) fn add_bare(set: SetId, keys: &[Key]) -> NetfilterMessage {
    let elements = keys.iter().map(|key| vec![attribute(*key)]).collect();
    inet(NfTablesMessage::NewSetElement(message(set, elements)))
}

/// Elements with their timeouts and comments.
pub(super) fn add(set: SetId, blocks: &[(Key, &Block)], now: Timestamp) -> NetfilterMessage {
    new_elements(set, blocks.iter().map(|(key, block)| element(*key, block, now)))
}

/// One of them, in nft's own order.
pub(super) fn element(key: Key, block: &Block, now: Timestamp) -> Vec<u8> {
    let mut element = Vec::with_capacity(ELEMENT);
    if let Some(until) = block.until {
        let left = until.since(now).min(LONGEST);
        // To the kernel 0 means: for ever.
        let millis = u64::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u64::MAX).max(1);
        put(&mut element, TIMEOUT, &millis.to_be_bytes());
    }
    nest(&mut element, KEY, |bytes| put(bytes, VALUE, &value(key)));
    put(&mut element, USERDATA, &userdata(&note::write(block)));
    element
}

/// The message that adds elements.
pub(super) fn new_elements(set: SetId, elements: impl IntoIterator<Item = Vec<u8>>) -> NetfilterMessage {
    let mut list = Vec::new();
    for element in elements {
        nest(&mut list, LIST_ELEMENT, |list| list.extend_from_slice(&element));
    }
    let name = |name: &str| [name.as_bytes(), &[0]].concat();
    let attributes = vec![
        DefaultNla::new(ITS_TABLE, name(TABLE)),
        DefaultNla::new(ITS_SET, name(&set.name())),
        DefaultNla::new(ELEMENTS | NLA_F_NESTED, list),
    ];
    let inner = NetfilterMessageInner::Other {
        subsys: NetfilterSubsystem::NfTables,
        message_type: NEW_ELEMENTS,
        attributes,
    };
    NetfilterMessage::new(NetfilterHeader::new(NetfilterProtoFamily::Inet, 0, 0), inner)
}

/// The end of elements; one that is not there fails the transaction.
pub(super) fn delete(set: SetId, keys: &[Key]) -> NetfilterMessage {
    let elements = keys.iter().map(|key| vec![attribute(*key)]).collect();
    inet(NfTablesMessage::DeleteSetElement(message(set, elements)))
}

/// The question for all elements of a set.
pub(super) fn list(set: SetId) -> NetfilterMessage {
    let attributes = vec![SetElementList::Table(TABLE.to_owned()), SetElementList::Set(set.name())];
    inet(NfTablesMessage::GetSetElement(SetElementMessage { attributes }))
}

/// The question for these elements.
pub(super) fn find(set: SetId, keys: &[Key]) -> NetfilterMessage {
    let elements = keys.iter().map(|key| vec![attribute(*key)]).collect();
    inet(NfTablesMessage::GetSetElement(message(set, elements)))
}

/// A message of the family `inet`.
pub(super) fn inet(message: NfTablesMessage) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(NetfilterProtoFamily::Inet, 0, 0), message)
}

fn frame(message: ControlMessage) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, SUBSYSTEM), message)
}

fn message(set: SetId, elements: Vec<Vec<SetElementAttribute>>) -> SetElementMessage {
    SetElementMessage {
        attributes: vec![
            SetElementList::Table(TABLE.to_owned()),
            SetElementList::Set(set.name()),
            SetElementList::Elements(elements.into_iter().map(ListAttribute::Element).collect()),
        ],
    }
}

fn attribute(key: Key) -> SetElementAttribute {
    SetElementAttribute::Key(DataAttribute::Value(value(key)))
}

/// What the kernel compares.
fn value((scope, port): Key) -> Vec<u8> {
    let mut bytes = match scope.addr() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    if let Some((transport, port)) = port {
        let [high, low] = port.to_be_bytes();
        // Each part of a key begins at a multiple of four bytes.
        bytes.extend([transport, 0, 0, 0, high, low, 0, 0]);
    }
    bytes
}

/// nft's form of a comment: type, length with the final NUL, text, NUL.
fn userdata(text: &str) -> Vec<u8> {
    let mut data = vec![COMMENT, u8::try_from(text.len() + 1).unwrap_or(u8::MAX)];
    data.extend(text.bytes().take(usize::from(u8::MAX) - 1));
    data.push(0);
    data
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
    use psentry_records::Prefix;

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
