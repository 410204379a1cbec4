//! The table, its chains and its rules, read from messages of the kernel. `nft flush table`, `nft flush chain` and `nft
//! delete rule` delete rules and leave sets, and without its rules a set drops nothing; nor does anything in a table that is
//! dormant. A rule of ours is recognised by what it does, and one that accepts by its comment.

use psentry_linux::netlink_attributes::{attribute, attributes, text};

use super::decode::{body, comment, number, set};
use super::ruleset_plan::{Action, Chain, FoundRule};
use super::ruleset_text::{SPARE, SPARE_TCP, TABLE};
use super::set_id::SetId;
use super::uapi::*;

/// Whether the table is dormant.
pub(super) fn is_dormant(message: &[u8]) -> bool {
    number(body(message), NFTA_TABLE_FLAGS).is_some_and(|flags| flags & NFT_TABLE_F_DORMANT != 0)
}

/// A chain of ours, and whether it has its hook and its priority; `None`: it is none of ours.
pub(super) fn chain(message: &[u8]) -> Option<(Chain, bool)> {
    let body = body(message);
    if text(attribute(body, NFTA_TABLE)?) != TABLE.as_bytes() {
        return None;
    }
    let chain = Chain::from_name(text(attribute(body, NFTA_CHAIN_NAME)?))?;
    let hook = attribute(body, NFTA_CHAIN_HOOK).unwrap_or_default();
    let is_right = number(hook, NFTA_HOOK_HOOKNUM) == Some(chain.hook as u32)
        && number(hook, NFTA_HOOK_PRIORITY) == Some(chain.priority().cast_unsigned());
    Some((chain, is_right))
}

/// A rule in a chain of ours, with its handle.
pub(super) fn rule(message: &[u8]) -> Option<FoundRule> {
    let body = body(message);
    let chain = Chain::from_name(text(attribute(body, NFTA_RULE_CHAIN)?))?;
    let handle = u64::from_be_bytes(*attribute(body, NFTA_RULE_HANDLE)?.first_chunk()?);
    Some(FoundRule { chain, handle, action: action(body) })
}

/// What a rule of ours does; `None`: it is none of ours.
fn action(body: &[u8]) -> Option<Action> {
    let (mut looks_up, mut accepts) = (None, false);
    let mut end: Option<fn(SetId) -> Action> = None;
    for expression in expressions(body) {
        let data = attribute(expression, NFTA_EXPR_DATA).unwrap_or_default();
        match attribute(expression, NFTA_EXPR_NAME).map(text) {
            Some(b"lookup") => looks_up = Some(set(data, NFTA_LOOKUP_SET)?),
            Some(b"immediate") => {
                let verdict = verdict(expression);
                end = (verdict == Some(NF_DROP)).then_some(Action::Drop);
                accepts = verdict == Some(NF_ACCEPT);
            }
            Some(b"reject") => {
                let reset = number(data, NFTA_REJECT_TYPE)? == NFT_REJECT_TCP_RST;
                end = Some(if reset { Action::Reset } else { Action::Refuse });
            }
            _ => {}
        }
    }
    let comment = || attribute(body, NFTA_RULE_USERDATA).and_then(comment);
    match (looks_up, end) {
        (Some(set), Some(end)) => Some(end(set)),
        (None, None) if accepts && comment().as_deref() == Some(SPARE) => Some(Action::Spare),
        (None, None) if accepts && comment().as_deref() == Some(SPARE_TCP) => Some(Action::SpareTcp),
        _ => None,
    }
}

fn expressions(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lists = attributes(body).filter(|(kind, _)| *kind == NFTA_RULE_EXPRESSIONS);
    lists.flat_map(|(_, list)| attributes(list)).map(|(_, expression)| expression)
}

fn verdict(expression: &[u8]) -> Option<u32> {
    let path = [NFTA_EXPR_DATA, NFTA_IMMEDIATE_DATA, NFTA_DATA_VERDICT];
    let immediate = attribute(expression, NFTA_EXPR_NAME).map(text) == Some(b"immediate");
    let data =
        path.iter().try_fold(expression, |outer, kind| attribute(outer, *kind)).filter(|_| immediate)?;
    number(data, NFTA_VERDICT_CODE)
}

#[cfg(test)]
mod tests;
