//! Elements of nft's sets as netlink messages: a block is an element with a timeout and a comment. Builds and
//! reads messages, sends none.

use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_core::{NLA_HEADER_SIZE, NlasIterator};
use netlink_packet_netfilter::nftables::{
    DataAttribute, ListAttribute, NfTablesMessage, SetElementAttribute, SetElementList, SetElementMessage,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};
use psentry_records::{Prefix, Timestamp};

use super::ruleset::{SetId, TABLE};
use crate::backend::{Block, Entry};
use crate::note;

/// The number of nftables among netfilter's subsystems; the frame of a batch names it.
const SUBSYSTEM: u16 = 10;

/// nft's own code for a comment among the data that the kernel keeps for userspace.
const COMMENT: u8 = 0;

/// The family and the version, before the attributes of a message.
pub(super) const HEADER: usize = 4;

// Numbers of attributes, from linux/netfilter/nf_tables.h.
const ELEMENTS: u16 = 3;
const KEY: u16 = 1;
const EXPIRATION: u16 = 5;
const USERDATA: u16 = 6;

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
pub(super) fn add_bare(set: SetId, scopes: &[Prefix]) -> NetfilterMessage {
    let elements = scopes.iter().map(|scope| vec![key(*scope)]).collect();
    inet(NfTablesMessage::NewSetElement(message(set, elements)))
}

/// Elements with their timeouts and comments.
pub(super) fn add(set: SetId, blocks: &[(Prefix, &Block)], now: Timestamp) -> NetfilterMessage {
    let element = |(scope, block): &(Prefix, &Block)| {
        // In nft's own order.
        let mut element = Vec::with_capacity(3);
        if let Some(until) = block.until {
            let left = until.since(now).min(LONGEST);
            // To the kernel 0 means: for ever.
            let millis = u64::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u64::MAX).max(1);
            element.push(SetElementAttribute::Timeout(millis));
        }
        element.push(key(*scope));
        element
            .push(SetElementAttribute::UserData(userdata(&note::write(block.rule.as_deref(), block.until))));
        element
    };
    inet(NfTablesMessage::NewSetElement(message(set, blocks.iter().map(element).collect())))
}

/// The end of elements; one that is not there fails the transaction.
pub(super) fn delete(set: SetId, scopes: &[Prefix]) -> NetfilterMessage {
    let elements = scopes.iter().map(|scope| vec![key(*scope)]).collect();
    inet(NfTablesMessage::DeleteSetElement(message(set, elements)))
}

/// The question for all elements of a set.
pub(super) fn list(set: SetId) -> NetfilterMessage {
    let attributes = vec![SetElementList::Table(TABLE.to_owned()), SetElementList::Set(set.name())];
    inet(NfTablesMessage::GetSetElement(SetElementMessage { attributes }))
}

/// The question for the elements that stand for these scopes.
pub(super) fn find(set: SetId, scopes: &[Prefix]) -> NetfilterMessage {
    let elements = scopes.iter().map(|scope| vec![key(*scope)]).collect();
    inet(NfTablesMessage::GetSetElement(message(set, elements)))
}

/// The blocks that one message of an answer to [`list`] holds. Read here, attribute by attribute: the crate puts the
/// whole message into words for each element, which takes seconds for some thousands.
pub(super) fn entries(set: SetId, message: &[u8], now: Timestamp) -> Vec<Entry> {
    let body = message.get(HEADER..).unwrap_or_default();
    attributes(body)
        .filter(|(kind, _)| *kind == ELEMENTS)
        .flat_map(|(_, list)| attributes(list))
        .filter_map(|(_, element)| entry(set, element, now))
        .collect()
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

fn key(scope: Prefix) -> SetElementAttribute {
    let bytes = match scope.addr() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    SetElementAttribute::Key(DataAttribute::Value(bytes))
}

fn entry(set: SetId, element: &[u8], now: Timestamp) -> Option<Entry> {
    let (mut scope, mut expires, mut told) = (None, None, None);
    for (kind, value) in attributes(element) {
        match kind {
            KEY => scope = attributes(value).next().and_then(|(_, key)| set.scope(key)),
            EXPIRATION => {
                let millis = u64::from_be_bytes(*value.first_chunk()?);
                expires = Some(now.plus(Duration::from_millis(millis)));
            }
            USERDATA => told = comment(value).and_then(|text| note::read(&text)),
            _ => {}
        }
    }
    Some(note::reconcile(scope?, expires, told))
}

/// Attributes with their kinds, up to the first that is broken.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(|attribute| {
        let attribute = attribute.ok()?;
        let (kind, length) = (attribute.kind(), usize::from(attribute.length()));
        // The buffer goes on with what comes after the attribute.
        Some((kind, attribute.into_inner().get(NLA_HEADER_SIZE..length)?))
    })
}

/// nft's form of a comment: type, length with the final NUL, text, NUL.
fn userdata(text: &str) -> Vec<u8> {
    let mut data = vec![COMMENT, u8::try_from(text.len() + 1).unwrap_or(u8::MAX)];
    data.extend(text.bytes().take(usize::from(u8::MAX) - 1));
    data.push(0);
    data
}

fn comment(mut data: &[u8]) -> Option<String> {
    while let [kind, len, rest @ ..] = data {
        let (text, after) = rest.split_at_checked(usize::from(*len))?;
        if *kind == COMMENT {
            let text = text.strip_suffix(&[0]).unwrap_or(text);
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        data = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
    use netlink_packet_netfilter::NetfilterMessageInner;

    fn bytes(message: NetfilterMessage) -> Vec<u8> {
        let mut message = NetlinkMessage::new(Default::default(), NetlinkPayload::InnerMessage(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes.split_off(16)
    }

    fn at(text: &str) -> Timestamp {
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
        let got = bytes(add(SetId::of(scope), &[(scope, &block)], at("2026-11-22T15:04:05Z")));
        // Before it: the family, the names of table and set, the head of the list of elements.
        let head: &[&[u8]] =
            &[b"\x01\0\0\0", b"\x0c\0\x01\0psentry\0", b"\x0a\0\x02\0v4_32\0\0\0", b"\x44\0\x03\x80"];
        assert_eq!(got, [head.concat(), want.concat()].concat());
    }

    #[test]
    fn an_element_is_read_back() {
        let now = at("2026-11-22T15:04:05Z");
        let set = SetId::FIRST[1];
        let scope: Prefix = "2001:db8::/64".parse().unwrap();
        let other: Prefix = "2001:db8:ffff:1::/64".parse().unwrap();
        let read = |until: &str, expires: u64| {
            let block = Block { until: Some(at(until)), rule: Some("fan".to_owned()), ..Block::default() };
            let NetfilterMessageInner::NfTables(NfTablesMessage::NewSetElement(mut message)) =
                add(set, &[(scope, &block), (other, &block)], now).inner
            else {
                panic!()
            };
            let SetElementList::Elements(list) = &mut message.attributes[2] else { panic!() };
            for element in list {
                let ListAttribute::Element(element) = element else { panic!() };
                element.push(SetElementAttribute::Expiration(expires));
            }
            entries(set, &bytes(inet(NfTablesMessage::NewSetElement(message))), now)
        };
        let until = at("2026-11-22T15:14:05Z");
        let want = Entry::new(scope, Some(until), Some("fan".to_owned()));
        let both = |entry: Entry| [entry.clone(), Entry { scope: other, ..entry }];
        assert_eq!(read("2026-11-22T15:14:05Z", 599_400), both(want.clone()));
        // Beyond what the kernel was asked for, the note knows better.
        let until = at("2080-01-01T00:00:00Z");
        assert_eq!(
            read("2080-01-01T00:00:00Z", 599_400),
            both(Entry { until: Some(until), early: true, ..want })
        );
    }

    #[test]
    fn a_broken_answer_holds_nothing() {
        for bytes in
            [&[][..], &[1, 0, 0, 0], &[1, 0, 0, 0, 200, 0, 3, 128], &[1, 0, 0, 0, 8, 0, 3, 128, 4, 0, 1, 128]]
        {
            assert_eq!(entries(SetId::FIRST[0], bytes, at("2026-11-22T15:04:05Z")), []);
        }
    }

    #[test]
    fn comments_of_others_are_passed_over() {
        assert_eq!(comment(&[7, 1, 0, 0, 2, b'a', 0]), Some("a".to_owned()));
        for broken in [&[0][..], &[0, 200, b'a'], &[]] {
            assert_eq!(comment(broken), None);
        }
    }
}
