//! Sets and their elements, read from messages of the kernel. They are read here, attribute by attribute: the crate of
//! nftables' messages allocates several values for each element, which takes seconds for some thousands. `decode_rules.rs`
//! reads the rest.

use std::time::Duration;

use psentry_linux::netlink_attributes::{attribute, attributes, text};
use psentry_records::Timestamp;

use super::encode::LONGEST;
use super::set_id::{Key, SetId};
use super::uapi::*;
use crate::block::Entry;
use crate::note;
use crate::ports::transport;

/// The attributes of a message.
pub(super) fn body(message: &[u8]) -> &[u8] {
    message.get(HEADER..).unwrap_or_default()
}

/// An attribute that is a number of four bytes.
pub(super) fn number(bytes: &[u8], kind: u16) -> Option<u32> {
    attribute(bytes, kind)?.first_chunk().map(|value| u32::from_be_bytes(*value))
}

/// An attribute that is the name of a set of ours.
pub(super) fn set(bytes: &[u8], kind: u16) -> Option<SetId> {
    SetId::from_name(str::from_utf8(text(attribute(bytes, kind)?)).ok()?)
}

/// How many elements the set of a message takes.
pub(super) fn set_size(message: &[u8]) -> Option<u32> {
    number(attribute(body(message), NFTA_SET_DESC)?, NFTA_SET_DESC_SIZE)
}

/// The elements in a message: the key of each, and the block that it says alone.
pub(super) fn elements(set: SetId, message: &[u8], now: Timestamp) -> impl Iterator<Item = (Key, Entry)> {
    let lists = attributes(body(message)).filter(|(kind, _)| *kind == NFTA_SET_ELEM_LIST_ELEMENTS);
    lists
        .flat_map(|(_, list)| attributes(list))
        .filter_map(move |(_, element)| decode_element(set, element, now))
}

fn decode_element(set: SetId, element: &[u8], now: Timestamp) -> Option<(Key, Entry)> {
    let (mut key, mut expires, mut noted) = (None, None, None);
    for (kind, value) in attributes(element) {
        match kind {
            NFTA_SET_ELEM_KEY => key = set.decode_key(attribute(value, NFTA_DATA_VALUE)?),
            NFTA_SET_ELEM_EXPIRATION => {
                let millis = u64::from_be_bytes(*value.first_chunk()?);
                expires = Some(now.plus(Duration::from_millis(millis)));
            }
            NFTA_SET_ELEM_USERDATA => noted = comment(value).and_then(|text| note::read(&text)),
            _ => {}
        }
    }
    let (scope, port) = key?;
    // The set decides what the element does, whatever its note says.
    let entry = note::reconcile(scope, expires, noted, now, LONGEST);
    let mut entry = Entry { unproven: set.unproven, ..entry };
    if let Some((number, port)) = port {
        // An element of another transport is none of ours.
        entry.proto = Some(transport(number)?);
        entry.ports.push(port);
    }
    Some((key?, entry))
}

/// The comment among what the kernel keeps for nft, of an element or of a rule.
pub(super) fn comment(mut data: &[u8]) -> Option<String> {
    while let [kind, len, rest @ ..] = data {
        let (value, after) = rest.split_at_checked(usize::from(*len))?;
        if *kind == UDATA_COMMENT {
            return Some(String::from_utf8_lossy(text(value)).into_owned());
        }
        data = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use psentry_linux::netlink_attributes::put;
    use psentry_records::Prefix;

    use super::super::encode::list_of;
    use super::super::encode::tests::{at, bytes};
    use super::*;
    use crate::block::Block;

    fn entries(set: SetId, message: &[u8], now: Timestamp) -> Vec<Entry> {
        elements(set, message, now).map(|(_, entry)| entry).collect()
    }

    #[test]
    fn an_element_is_read_back() {
        let now = at("2026-11-22T15:04:05Z");
        let set = SetId::FIRST[1];
        let scope: Prefix = "2001:db8::/64".parse().unwrap();
        let other: Prefix = "2001:db8:ffff:1::/64".parse().unwrap();
        let read = |until: &str, expires: u64| {
            let block = Block { until: Some(at(until)), rule: Some("fan".to_owned()), ..Block::default() };
            let elements = [scope, other].map(|scope| {
                let mut element = super::super::encode::element((scope, None), &block, now);
                put(&mut element, NFTA_SET_ELEM_EXPIRATION, &expires.to_be_bytes());
                element
            });
            entries(set, &bytes(list_of(NFT_MSG_NEWSETELEM, set, elements)), now)
        };
        let until = at("2026-11-22T15:14:05Z");
        let want = Entry::new(scope, Some(until), Some("fan".to_owned()));
        let both = |entry: Entry| [entry.clone(), Entry { scope: other, ..entry }];
        assert_eq!(read("2026-11-22T15:14:05Z", 599_400), both(want.clone()));
        // Where they disagree, the note says what was wanted.
        let until = at("2080-01-01T00:00:00Z");
        assert_eq!(
            read("2080-01-01T00:00:00Z", 599_400),
            both(Entry { until: Some(until), damaged: true, ..want })
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
    fn data_of_others_is_skipped() {
        assert_eq!(comment(&[7, 1, 0, 0, 2, b'a', 0]), Some("a".to_owned()));
        for broken in [&[0][..], &[0, 200, b'a'], &[]] {
            assert_eq!(comment(broken), None);
        }
    }
}
