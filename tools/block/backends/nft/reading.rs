//! Elements of nft's sets, read from messages of the kernel: answers and notifications. Read here, attribute by
//! attribute: the crate puts the whole message into words for each element, which takes seconds for some thousands.

use std::time::Duration;

use psentry_records::{Prefix, Timestamp};

use super::super::attributes::{attribute, attributes};
use super::elements::COMMENT;
use super::sets::{Key, SetId};
use crate::backend::Entry;
use crate::note;
use crate::ports::transport;

/// The family and the version, before the attributes of a message.
pub(super) const HEADER: usize = 4;

// Numbers of attributes, from linux/netfilter/nf_tables.h.
const ELEMENTS: u16 = 3;
const SET_DESCRIPTION: u16 = 9;
const DESCRIPTION_SIZE: u16 = 1;
const KEY: u16 = 1;
const EXPIRATION: u16 = 5;
const USERDATA: u16 = 6;

/// The blocks that one message holds, one for each element.
pub(super) fn entries(set: SetId, message: &[u8], now: Timestamp) -> Vec<Entry> {
    elements(message).filter_map(|element| entry(set, element, now)).collect()
}

/// The scopes that one message names, once for each element.
pub(super) fn scopes(set: SetId, message: &[u8]) -> impl Iterator<Item = Prefix> {
    keys(set, message).map(|(scope, _)| scope)
}

/// The elements that one message names.
pub(super) fn keys(set: SetId, message: &[u8]) -> impl Iterator<Item = Key> {
    elements(message).filter_map(move |element| {
        let (_, value) = attributes(element).find(|(kind, _)| *kind == KEY)?;
        key(set, value)
    })
}

/// How many elements the set that a message tells of takes.
pub(super) fn size(message: &[u8]) -> Option<u32> {
    let body = message.get(HEADER..)?;
    let size = attribute(attribute(body, SET_DESCRIPTION)?, DESCRIPTION_SIZE)?;
    Some(u32::from_be_bytes(*size.first_chunk()?))
}

fn elements(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    let body = message.get(HEADER..).unwrap_or_default();
    let lists = attributes(body).filter(|(kind, _)| *kind == ELEMENTS);
    lists.flat_map(|(_, list)| attributes(list)).map(|(_, element)| element)
}

fn key(set: SetId, value: &[u8]) -> Option<Key> {
    attributes(value).next().and_then(|(_, bytes)| set.key(bytes))
}

fn entry(set: SetId, element: &[u8], now: Timestamp) -> Option<Entry> {
    let (mut named, mut expires, mut told) = (None, None, None);
    for (kind, value) in attributes(element) {
        match kind {
            KEY => named = key(set, value),
            EXPIRATION => {
                let millis = u64::from_be_bytes(*value.first_chunk()?);
                expires = Some(now.plus(Duration::from_millis(millis)));
            }
            USERDATA => told = comment(value).and_then(|text| note::read(&text)),
            _ => {}
        }
    }
    let (scope, port) = named?;
    let mut entry = note::reconcile(scope, expires, told);
    // The set decides what it does, whatever its note says.
    entry.unproven = set.unproven;
    if let Some((number, port)) = port {
        // Whatever others put in of another transport is none of ours.
        entry.proto = Some(transport(number)?);
        entry.ports.push(port);
    }
    Some(entry)
}

/// The comment among what the kernel keeps for userspace, of an element as of a rule.
pub(super) fn comment(mut data: &[u8]) -> Option<String> {
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
    use super::super::super::attributes::put;
    use super::super::elements::tests::{at, bytes};
    use super::super::elements::{element, new_elements};
    use super::*;
    use crate::backend::Block;

    #[test]
    fn an_element_is_read_back() {
        let now = at("2026-11-22T15:04:05Z");
        let set = SetId::FIRST[1];
        let scope: Prefix = "2001:db8::/64".parse().unwrap();
        let other: Prefix = "2001:db8:ffff:1::/64".parse().unwrap();
        let read = |until: &str, expires: u64| {
            let block = Block { until: Some(at(until)), rule: Some("fan".to_owned()), ..Block::default() };
            let told = [scope, other].map(|scope| {
                let mut told = element((scope, None), &block, now);
                put(&mut told, EXPIRATION, &expires.to_be_bytes());
                told
            });
            entries(set, &bytes(new_elements(set, told)), now)
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
