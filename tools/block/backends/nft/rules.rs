//! Which chains and rules stand: without its rules nothing is dropped, however full a set is. `nft flush table`, `nft
//! flush chain` and `nft delete rule` take rules away and leave sets; in a table that sleeps no rule is asked. A rule of
//! ours is known by what it does; one that lets packets through, by its comment. Builds and reads messages, sends none.

use netlink_packet_netfilter::NetfilterMessage;
use netlink_packet_netfilter::nftables::{
    ChainMessage, GenMessage, NfTablesMessage, RuleAttribute, RuleMessage, TableAttribute, TableMessage,
};

use super::super::attributes::{attribute, attributes, text};
use super::elements::inet;
use super::layout::{Does, Hook, Rule};
use super::reading::{HEADER, comment};
use super::ruleset::{SPARED, SetId, TABLE};

// Numbers of attributes, from linux/netfilter/nf_tables.h.
const GENERATION: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;
const EXPRESSIONS: u16 = 4;
const RULE_USERDATA: u16 = 7;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const LOOKUP_SET: u16 = 1;
const IMMEDIATE_DATA: u16 = 2;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const REJECT_TYPE: u16 = 1;

/// The flag of a table that sleeps.
const DORMANT: u32 = 1;

/// The verdicts that drop a packet, and let it through (linux/netfilter.h).
const DROP: [u8; 4] = [0; 4];
const ACCEPT: [u8; 4] = [0, 0, 0, 1];

/// The rejection by a reset; others tell by ICMP.
const RESET: [u8; 4] = [0, 0, 0, 1];

/// The question for the generation of the ruleset, which every change of it, by anybody, raises by one.
pub(super) fn ask_generation() -> NetfilterMessage {
    inet(NfTablesMessage::GetGen(GenMessage { attributes: Vec::new() }))
}

/// The generation that an answer tells.
pub(super) fn generation(message: &[u8]) -> Option<u32> {
    let body = message.get(HEADER..).unwrap_or_default();
    Some(u32::from_be_bytes(*attribute(body, GENERATION)?.first_chunk()?))
}

/// The question for the rules of our table.
pub(super) fn list() -> NetfilterMessage {
    let attributes = vec![RuleAttribute::Table(TABLE.to_owned())];
    inet(NfTablesMessage::GetRule(RuleMessage { attributes }))
}

/// The question for all chains of the family.
pub(super) fn chains() -> NetfilterMessage {
    inet(NfTablesMessage::GetChain(ChainMessage { attributes: Vec::new() }))
}

/// The chain that a message tells of, with its priority if it is at its hook; `None`: it is none of ours.
pub(super) fn chain(message: &[u8]) -> Option<(Hook, Option<i32>)> {
    let body = message.get(HEADER..)?;
    let hook = Hook::from_name(text(attribute(body, CHAIN_NAME)?))?;
    let priority = attribute(body, CHAIN_HOOK).and_then(|at| {
        let number = u32::from_be_bytes(*attribute(at, HOOK_NUMBER)?.first_chunk()?);
        let priority = i32::from_be_bytes(*attribute(at, HOOK_PRIORITY)?.first_chunk()?);
        (number == hook.number()).then_some(priority)
    });
    (text(attribute(body, CHAIN_TABLE)?) == TABLE.as_bytes()).then_some((hook, priority))
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

/// The rule that a message tells of, with its handle; `None`: it is no rule of ours.
pub(super) fn rule(message: &[u8]) -> Option<(Rule, u64)> {
    let body = message.get(HEADER..)?;
    let hook = Hook::from_name(text(attribute(body, RULE_CHAIN)?))?;
    let handle = u64::from_be_bytes(*attribute(body, RULE_HANDLE)?.first_chunk()?);
    let says = attribute(body, RULE_USERDATA).and_then(comment);
    Some((Rule { hook, does: does(body, says.as_deref())? }, handle))
}

fn does(body: &[u8], says: Option<&str>) -> Option<Does> {
    let (mut set, mut accepts) = (None, false);
    let mut end: Option<fn(SetId) -> Does> = None;
    let expressions = attributes(body).filter(|(kind, _)| *kind == EXPRESSIONS);
    for (_, expression) in expressions.flat_map(|(_, list)| attributes(list)) {
        match attribute(expression, EXPRESSION_NAME).map(text) {
            Some(b"lookup") => {
                let name =
                    attribute(expression, EXPRESSION_DATA).and_then(|data| attribute(data, LOOKUP_SET))?;
                set = Some(SetId::from_name(std::str::from_utf8(text(name)).ok()?)?);
            }
            Some(b"immediate") => {
                let code = verdict(expression);
                end = code.filter(|code| *code == DROP).map(|_| Does::Drop as fn(SetId) -> Does);
                accepts = code.is_some_and(|code| code == ACCEPT);
            }
            Some(b"reject") => {
                let kind =
                    attribute(expression, EXPRESSION_DATA).and_then(|data| attribute(data, REJECT_TYPE))?;
                end = Some(if kind == RESET { Does::Reset } else { Does::Refuse });
            }
            _ => {}
        }
    }
    match (set, end) {
        (Some(set), Some(end)) => Some(end(set)),
        (None, None) if accepts && says == Some(SPARED) => Some(Does::Spare),
        _ => None,
    }
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

    fn message(expressions: &[(&[u8], Vec<u8>)], says: &str) -> Vec<u8> {
        let expression = |(name, data): &(&[u8], Vec<u8>)| {
            attribute(1, &[attribute(EXPRESSION_NAME, name), attribute(EXPRESSION_DATA, data)].concat())
        };
        let list: Vec<u8> = expressions.iter().flat_map(expression).collect();
        let says = [&[0, u8::try_from(says.len()).unwrap()][..], says.as_bytes()].concat();
        [
            vec![1, 0, 0, 0],
            attribute(RULE_CHAIN, b"prerouting\0"),
            attribute(RULE_HANDLE, &[0, 0, 0, 0, 0, 0, 1, 2]),
            attribute(EXPRESSIONS, &list),
            attribute(RULE_USERDATA, &says),
        ]
        .concat()
    }

    fn lookup(set: &[u8]) -> (&'static [u8], Vec<u8>) {
        (b"lookup\0", attribute(LOOKUP_SET, set))
    }

    fn verdict(code: [u8; 4]) -> (&'static [u8], Vec<u8>) {
        (b"immediate\0", attribute(IMMEDIATE_DATA, &attribute(DATA_VERDICT, &attribute(VERDICT_CODE, &code))))
    }

    #[test]
    fn a_rule_is_known_by_its_set_and_what_becomes_of_it() {
        let reject = |kind: u8| (&b"reject\0"[..], attribute(REJECT_TYPE, &[0, 0, 0, kind]));
        let payload = || (&b"payload\0"[..], Vec::new());
        let set = SetId::FIRST[0];
        for (end, says, want) in [
            (verdict(DROP), "", Some(Does::Drop(set))),
            (verdict(ACCEPT), "", None),
            (verdict(ACCEPT), SPARED, None),
            (reject(1), "", Some(Does::Reset(set))),
            (reject(2), "", Some(Does::Refuse(set))),
        ] {
            let passes = end == verdict(ACCEPT);
            let message = message(&[payload(), lookup(b"v4_32\0"), end], says);
            assert_eq!(accepts(&message), passes);
            assert_eq!(rule(&message), want.map(|does| (Rule { hook: Hook::Prerouting, does }, 258)));
        }
        assert_eq!(rule(&message(&[lookup(b"mine\0"), verdict(DROP)], "")), None);
        assert_eq!(rule(&[1, 0, 0]), None);
        assert_eq!(generation(&[&[0, 0, 0, 0][..], &attribute(1, &[0, 0, 1, 2])].concat()), Some(258));
    }

    /// Whoever lets some packets through by a rule of his own keeps it.
    #[test]
    fn a_rule_that_lets_through_is_ours_by_its_comment() {
        let ct = || (&b"ct\0"[..], Vec::new());
        let does = |says: &str| rule(&message(&[ct(), verdict(ACCEPT)], says)).map(|(rule, _)| rule.does);
        assert_eq!(does(SPARED), Some(Does::Spare));
        assert_eq!(does("my monitoring"), None);
    }

    #[test]
    fn a_chain_is_right_at_the_hook_that_it_is_named_after() {
        let told = |table: &[u8], name: &[u8], number: u8| {
            let at = [
                attribute(HOOK_NUMBER, &[0, 0, 0, number]),
                attribute(HOOK_PRIORITY, &(-300i32).to_be_bytes()),
            ];
            let parts = [
                vec![1, 0, 0, 0],
                attribute(CHAIN_TABLE, table),
                attribute(CHAIN_NAME, name),
                attribute(CHAIN_HOOK, &at.concat()),
            ];
            chain(&parts.concat())
        };
        assert_eq!(told(b"psentry\0", b"input\0", 1), Some((Hook::Input, Some(-300))));
        assert_eq!(told(b"psentry\0", b"input\0", 2), Some((Hook::Input, None)));
        assert_eq!(told(b"filter\0", b"input\0", 1), None);
        assert_eq!(told(b"psentry\0", b"mine\0", 1), None);
    }
}
