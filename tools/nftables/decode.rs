//! What the kernel answers about a table: chains, rules, sets and elements, read from messages.

use std::time::Duration;

use psentry_linux::netlink_attributes::{attribute, attributes, text};

use crate::uapi::*;

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// The number of its hook (linux/netfilter.h) and its priority; `None`: it has no hook.
    pub hook: Option<(u32, i32)>,
}

/// A set, or a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// It is a part of a rule, and goes with it.
    pub is_anonymous: bool,
    /// It holds plain values that may have a timeout: neither intervals nor what maps to something.
    pub is_timed: bool,
    /// How many bytes its keys have.
    pub key_length: u32,
    /// How many elements it takes; `None`: it has no limit.
    pub size: Option<u32>,
}

/// A rule, as far as it is told here what it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The name of its chain.
    pub chain: String,
    /// The set in which it looks something up; of several the last one.
    pub set: Option<String>,
    /// What becomes of the packet.
    pub verdict: Option<Verdict>,
    /// Its comment.
    pub comment: Option<String>,
}

/// What a rule does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Accept,
    /// It is dropped.
    Drop,
    /// Its connection is reset.
    Reset,
    /// It is answered by ICMP.
    Refuse,
}

/// An element of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element<'a> {
    /// What the kernel compares.
    pub key: &'a [u8],
    /// How long it stays; `None`: for ever.
    pub left: Option<Duration>,
    /// Its comment.
    pub comment: Option<String>,
}

/// The attributes of a message.
pub(crate) fn body(message: &[u8]) -> &[u8] {
    message.get(HEADER..).unwrap_or_default()
}

/// An attribute that is a number of four bytes.
pub(crate) fn number(bytes: &[u8], kind: u16) -> Option<u32> {
    attribute(bytes, kind)?.first_chunk().map(|value| u32::from_be_bytes(*value))
}

/// An attribute that is a name.
pub(crate) fn name(bytes: &[u8], kind: u16) -> Option<&str> {
    str::from_utf8(text(attribute(bytes, kind)?)).ok()
}

/// The generation of the ruleset.
pub(crate) fn generation(message: &[u8]) -> Option<u32> {
    number(body(message), NFTA_GEN_ID)
}

/// Whether a table is dormant.
pub(crate) fn is_dormant(message: &[u8]) -> bool {
    number(body(message), NFTA_TABLE_FLAGS).is_some_and(|flags| flags & NFT_TABLE_F_DORMANT != 0)
}

/// A chain of a table; `None`: it is one of another table.
pub(crate) fn chain(table: &str, message: &[u8]) -> Option<Chain> {
    let body = body(message);
    if name(body, NFTA_TABLE)? != table {
        return None;
    }
    let hook = attribute(body, NFTA_CHAIN_HOOK)
        .and_then(|hook| number(hook, NFTA_HOOK_HOOKNUM).zip(number(hook, NFTA_HOOK_PRIORITY)));
    let hook = hook.map(|(number, priority)| (number, priority.cast_signed()));
    Some(Chain { name: name(body, NFTA_CHAIN_NAME)?.to_owned(), hook })
}

/// A rule.
pub(crate) fn rule(message: &[u8]) -> Option<Rule> {
    let body = body(message);
    let chain = name(body, NFTA_RULE_CHAIN)?.to_owned();
    let comment = attribute(body, NFTA_RULE_USERDATA).and_then(comment);
    let mut rule = Rule { chain, set: None, verdict: None, comment };
    let expressions = attribute(body, NFTA_RULE_EXPRESSIONS).unwrap_or_default();
    for (_, expression) in attributes(expressions) {
        let data = attribute(expression, NFTA_EXPR_DATA).unwrap_or_default();
        match name(expression, NFTA_EXPR_NAME) {
            Some("lookup") => rule.set = name(data, NFTA_LOOKUP_SET).map(str::to_owned),
            Some("immediate") => rule.verdict = verdict(data),
            Some("reject") => {
                let reset = number(data, NFTA_REJECT_TYPE) == Some(NFT_REJECT_TCP_RST);
                rule.verdict = Some(if reset { Verdict::Reset } else { Verdict::Refuse });
            }
            _ => {}
        }
    }
    Some(rule)
}

fn verdict(immediate: &[u8]) -> Option<Verdict> {
    let verdict = attribute(attribute(immediate, NFTA_IMMEDIATE_DATA)?, NFTA_DATA_VERDICT)?;
    match number(verdict, NFTA_VERDICT_CODE)? {
        NF_DROP => Some(Verdict::Drop),
        NF_ACCEPT => Some(Verdict::Accept),
        _ => None,
    }
}

/// A set.
pub(crate) fn set(message: &[u8]) -> Option<Set> {
    let body = body(message);
    let flags = number(body, NFTA_SET_FLAGS).unwrap_or_default();
    let size = attribute(body, NFTA_SET_DESC).and_then(|desc| number(desc, NFTA_SET_DESC_SIZE));
    Some(Set {
        name: name(body, NFTA_SET)?.to_owned(),
        is_anonymous: flags & NFT_SET_ANONYMOUS != 0,
        is_timed: flags & !NFT_SET_CONCAT == NFT_SET_TIMEOUT,
        key_length: number(body, NFTA_SET_KEY_LEN)?,
        size,
    })
}

/// The elements in a message.
pub(crate) fn elements(message: &[u8]) -> impl Iterator<Item = Element<'_>> {
    let lists = attributes(body(message)).filter(|(kind, _)| *kind == NFTA_SET_ELEM_LIST_ELEMENTS);
    lists.flat_map(|(_, list)| attributes(list)).filter_map(|(_, bytes)| element(bytes))
}

fn element(bytes: &[u8]) -> Option<Element<'_>> {
    let (mut key, mut left, mut noted) = (None, None, None);
    for (kind, value) in attributes(bytes) {
        match kind {
            NFTA_SET_ELEM_KEY => key = attribute(value, NFTA_DATA_VALUE),
            NFTA_SET_ELEM_EXPIRATION => {
                left = Some(Duration::from_millis(u64::from_be_bytes(*value.first_chunk()?)));
            }
            NFTA_SET_ELEM_USERDATA => noted = comment(value),
            _ => {}
        }
    }
    Some(Element { key: key?, left, comment: noted })
}

/// The comment among what the kernel keeps for nft, of an element or of a rule.
fn comment(mut data: &[u8]) -> Option<String> {
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
mod tests;
