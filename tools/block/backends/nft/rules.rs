//! Whether the sets have their rules: without them nothing is dropped, however full a set is. `nft flush table`, `nft
//! flush chain` and `nft delete rule` take rules away and leave sets; in a table that sleeps no rule is asked. Builds and
//! reads messages, sends none.

use netlink_packet_netfilter::NetfilterMessage;
use netlink_packet_netfilter::nftables::{
    GenMessage, NfTablesMessage, RuleAttribute, RuleMessage, TableAttribute, TableMessage,
};

use super::super::attributes::{attribute, attributes, text};
use super::elements::inet;
use super::reading::HEADER;
use super::ruleset::{CHAIN, SetId, TABLE};

// Numbers of attributes, from linux/netfilter/nf_tables.h.
const GENERATION: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const EXPRESSIONS: u16 = 4;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const LOOKUP_SET: u16 = 1;
const IMMEDIATE_DATA: u16 = 2;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;

/// The flag of a table that sleeps.
const DORMANT: u32 = 1;

/// The verdict that drops a packet (linux/netfilter.h).
const DROP: [u8; 4] = [0; 4];

/// The one that accepts it.
const ACCEPT: [u8; 4] = [0, 0, 0, 1];

/// The question for the generation of the ruleset, which every change of it, by anybody, raises by one.
pub(super) fn ask_generation() -> NetfilterMessage {
    inet(NfTablesMessage::GetGen(GenMessage { attributes: Vec::new() }))
}

/// The generation that an answer tells.
pub(super) fn generation(message: &[u8]) -> Option<u32> {
    let body = message.get(HEADER..).unwrap_or_default();
    Some(u32::from_be_bytes(*attribute(body, GENERATION)?.first_chunk()?))
}

/// The question for the rules of our chain.
pub(super) fn list() -> NetfilterMessage {
    let attributes = vec![RuleAttribute::Table(TABLE.to_owned()), RuleAttribute::Chain(CHAIN.to_owned())];
    inet(NfTablesMessage::GetRule(RuleMessage { attributes }))
}

/// The question for our table.
pub(super) fn table() -> NetfilterMessage {
    let attributes = vec![TableAttribute::Name(TABLE.to_owned())];
    inet(NfTablesMessage::GetTable(TableMessage { attributes }))
}

/// Whether the table that a message tells of sleeps.
pub(super) fn is_dormant(message: &[u8]) -> bool {
    let body = message.get(HEADER..).unwrap_or_default();
    let flags = attribute(body, TABLE_FLAGS).and_then(|value| value.first_chunk().copied());
    flags.is_some_and(|flags| u32::from_be_bytes(flags) & DORMANT != 0)
}

/// The set whose elements a rule drops; `None`: it is no rule of ours.
pub(super) fn drops(message: &[u8]) -> Option<SetId> {
    let body = message.get(HEADER..).unwrap_or_default();
    let (mut set, mut drops) = (None, false);
    let expressions = attributes(body).filter(|(kind, _)| *kind == EXPRESSIONS);
    for (_, expression) in expressions.flat_map(|(_, list)| attributes(list)) {
        match attribute(expression, EXPRESSION_NAME).map(text) {
            Some(b"lookup") => {
                let name =
                    attribute(expression, EXPRESSION_DATA).and_then(|data| attribute(data, LOOKUP_SET))?;
                set = std::str::from_utf8(text(name)).ok().and_then(SetId::from_name);
            }
            Some(b"immediate") => drops = verdict(expression) == Some(&DROP),
            _ => {}
        }
    }
    set.filter(|_| drops)
}

/// Whether a rule accepts, and so ends the walk through its chain.
pub(super) fn accepts(message: &[u8]) -> bool {
    let body = message.get(HEADER..).unwrap_or_default();
    attributes(body)
        .filter(|(kind, _)| *kind == EXPRESSIONS)
        .flat_map(|(_, list)| attributes(list))
        .any(|(_, expression)| verdict(expression) == Some(&ACCEPT))
}

fn verdict(expression: &[u8]) -> Option<&[u8]> {
    let path = [EXPRESSION_DATA, IMMEDIATE_DATA, DATA_VERDICT, VERDICT_CODE];
    let immediate = attribute(expression, EXPRESSION_NAME).map(text) == Some(b"immediate");
    path.iter().try_fold(expression, |outer, kind| attribute(outer, *kind)).filter(|_| immediate)
}

#[cfg(test)]
mod tests {
    use super::super::super::attributes::put;
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&mut bytes, kind, value);
        bytes
    }

    #[test]
    fn a_table_that_sleeps_is_known_by_its_flag() {
        for (flags, dormant) in [([0, 0, 0, 1], true), ([0, 0, 0, 3], true), ([0, 0, 0, 2], false)] {
            let message = [&[1, 0, 0, 0][..], &attribute(1, b"psentry\0"), &attribute(TABLE_FLAGS, &flags)];
            assert_eq!(is_dormant(&message.concat()), dormant, "{flags:?}");
        }
        assert!(!is_dormant(&[1, 0, 0, 0, 6, 0, 2, 0, 1]));
    }

    fn rule(set: &[u8], code: [u8; 4]) -> Vec<u8> {
        let expression = |name: &[u8], data: &[u8]| {
            attribute(1, &[attribute(EXPRESSION_NAME, name), attribute(EXPRESSION_DATA, data)].concat())
        };
        let verdict = attribute(IMMEDIATE_DATA, &attribute(DATA_VERDICT, &attribute(VERDICT_CODE, &code)));
        let list = [
            expression(b"payload\0", b""),
            expression(b"lookup\0", &attribute(LOOKUP_SET, set)),
            expression(b"counter\0", b""),
            expression(b"immediate\0", &verdict),
        ];
        [vec![1, 0, 0, 0], attribute(EXPRESSIONS, &list.concat())].concat()
    }

    #[test]
    fn a_rule_is_known_by_its_set_and_that_it_drops() {
        assert_eq!(drops(&rule(b"v4_32\0", DROP)), Some(SetId::FIRST[0]));
        assert_eq!(drops(&rule(b"v4_32\0", ACCEPT)), None);
        assert!(accepts(&rule(b"v4_32\0", ACCEPT)) && !accepts(&rule(b"v4_32\0", DROP)));
        assert_eq!(drops(&rule(b"mine\0", DROP)), None);
        assert_eq!(drops(&[1, 0, 0]), None);
        assert_eq!(generation(&[&[0, 0, 0, 0][..], &attribute(1, &[0, 0, 1, 2])].concat()), Some(258));
    }
}
