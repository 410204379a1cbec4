//! Which chains and rules stand: without its rules nothing is dropped, however full a set is. `nft flush table`, `nft
//! flush chain` and `nft delete rule` take rules away and leave sets; in a table that sleeps no rule is asked. A rule of
//! ours is known by what it does; one that lets packets through, by its comment. Builds and reads messages, sends none.

use netlink_packet_netfilter::NetfilterMessage;
use netlink_packet_netfilter::nftables::{
    ChainMessage, GenMessage, NfTablesMessage, RuleAttribute, RuleMessage, TableAttribute, TableMessage,
};

use super::super::attributes::{attribute, attributes, text};
use super::elements::inet;
use super::layout::{Chain, Does, Rule};
use super::reading::{HEADER, comment};
use super::ruleset::{SPARED, SPARED_TCP, TABLE};
use super::sets::SetId;

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

/// The verdicts that lead out of a chain, to another one or to its policy, which in ours accepts (linux/netfilter/nf_tables.h).
const GOTO: [u8; 4] = (-4i32).to_be_bytes();
const RETURN: [u8; 4] = (-5i32).to_be_bytes();

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
pub(super) fn chain(message: &[u8]) -> Option<(Chain, Option<i32>)> {
    let body = message.get(HEADER..)?;
    let chain = Chain::from_name(text(attribute(body, CHAIN_NAME)?))?;
    let priority = attribute(body, CHAIN_HOOK).and_then(|at| {
        let number = u32::from_be_bytes(*attribute(at, HOOK_NUMBER)?.first_chunk()?);
        let priority = i32::from_be_bytes(*attribute(at, HOOK_PRIORITY)?.first_chunk()?);
        (number == chain.hook.number()).then_some(priority)
    });
    (text(attribute(body, CHAIN_TABLE)?) == TABLE.as_bytes()).then_some((chain, priority))
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
    let chain = Chain::from_name(text(attribute(body, RULE_CHAIN)?))?;
    let handle = u64::from_be_bytes(*attribute(body, RULE_HANDLE)?.first_chunk()?);
    let says = attribute(body, RULE_USERDATA).and_then(comment);
    Some((Rule { chain, does: does(body, says.as_deref())? }, handle))
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
        (None, None) if accepts && says == Some(SPARED_TCP) => Some(Does::SpareTcp),
        _ => None,
    }
}

/// Whether a rule ends the walk through its chain and may let a packet through.
pub(super) fn lets_pass(message: &[u8]) -> bool {
    let body = message.get(HEADER..).unwrap_or_default();
    attributes(body).filter(|(kind, _)| *kind == EXPRESSIONS).flat_map(|(_, list)| attributes(list)).any(
        |(_, expression)| {
            verdict(expression).is_some_and(|code| [ACCEPT, GOTO, RETURN].iter().any(|passes| passes == code))
        },
    )
}

fn verdict(expression: &[u8]) -> Option<&[u8]> {
    let path = [EXPRESSION_DATA, IMMEDIATE_DATA, DATA_VERDICT, VERDICT_CODE];
    let immediate = attribute(expression, EXPRESSION_NAME).map(text) == Some(b"immediate");
    path.iter().try_fold(expression, |outer, kind| attribute(outer, *kind)).filter(|_| immediate)
}

#[cfg(test)]
mod tests;
