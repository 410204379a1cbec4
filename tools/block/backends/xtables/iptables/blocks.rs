//! Blocks as the rules of iptables that they are: the commands that make them of what is there, and what is there as blocks. Reads and
//! writes text, runs nothing.

use std::collections::BTreeMap;

use psentry_linux::{Rule, Rules};
use psentry_records::{Prefix, Proto};

use super::super::rules::{DROP, TCP_ONLY, answers};
use super::chains::{CHAINS, PROVEN, UNPROVEN, setup};
use crate::backend::Op;
use crate::block::{Block, Entry, TCP};
use crate::note::{self, Noted};
use crate::reach::Reach;

/// How many ports a rule takes.
const PORTS: usize = 15;

/// The rules that a block is, as `iptables -S` writes them.
fn rules_of(reach: Reach, scope: Prefix, block: &Block) -> Vec<String> {
    let chain = if block.unproven { UNPROVEN } else { PROVEN };
    let note = format!("-m comment --comment \"{}{}\"", distinction(scope), note::write(block));
    let mut rules = Vec::new();
    let from = ("-s", "--dports", answers(reach, scope.is_ipv4()));
    let to = reach.egress.then_some(("-d", "--sports", [DROP; 2]));
    for (addr, ports, [tcp, rest]) in [from].into_iter().chain(to) {
        let mut add = |only: &str, end| rules.push(format!("-A {chain} {addr} {scope} {only}{note} {end}"));
        if block.ports.is_empty() {
            if tcp != rest {
                add(TCP_ONLY, tcp);
            }
            add("", rest);
        }
        for transport in block.transports() {
            let (name, end) = if *transport == TCP { ("tcp", tcp) } else { ("udp", rest) };
            for chunk in block.ports.chunks(PORTS) {
                let list: Vec<String> = chunk.iter().map(u16::to_string).collect();
                add(&format!("-p {name} -m multiport {ports} {} ", list.join(",")), end);
            }
        }
    }
    rules
}

/// What a comment begins with where it takes a comment to tell two rules apart: ip6tables 1.8.9 (nf_tables) takes
/// 2001:db8::/48 and 2001:db8::/64 for the same when it deletes a rule, and deletes the first of them.
fn distinction(scope: Prefix) -> String {
    if scope.is_ipv4() || scope.is_host() { String::new() } else { format!("{scope}: ") }
}

/// The block that a rule in one of our chains is a part of, or all; `None`: it is none of ours.
fn entry(rule: &Rule) -> Option<Entry> {
    let (scope, comment) = (rule.scope()?, rule.comment()?);
    let note = comment.strip_prefix(&distinction(scope)).unwrap_or(comment);
    let Noted { rule: name, since, until, .. } = note::read(note)?;
    // The chain decides what it does, whatever its note says.
    let unproven = rule.value("-A") == Some(UNPROVEN);
    let mut entry = Entry { since, unproven, ..Entry::new(scope, until, name) };
    if let Some(ports) = rule.value("--dports").or_else(|| rule.value("--sports")) {
        entry.ports = ports.split(',').map(str::parse).collect::<Result<_, _>>().ok()?;
        entry.proto = rule.value("-p").map(Proto::from_name);
    }
    Some(entry)
}

/// The rules of our chains by whom they block.
fn by_scope(rules: &Rules) -> BTreeMap<Prefix, Vec<&Rule>> {
    let mut scopes = BTreeMap::<_, Vec<&Rule>>::new();
    for rule in CHAINS.iter().flat_map(|chain| rules.chain(chain)) {
        if let Some(scope) = rule.scope() {
            scopes.entry(scope).or_default().push(rule);
        }
    }
    scopes
}

/// The commands of operations, with those that make their chains.
pub(super) fn commands(reach: Reach, rules: &Rules, ops: &[&Op]) -> Vec<String> {
    let present = by_scope(rules);
    let mut blocks = ops.iter().filter_map(|op| op.block()).peekable();
    let mut commands = Vec::new();
    // Who only deletes makes nothing.
    if blocks.peek().is_some() {
        commands = setup(reach, rules, blocks.any(|block| block.unproven));
    }
    let of =
        |op: &&Op| diff(reach, present.get(&op.scope()).map_or(&[], Vec::as_slice), op.scope(), op.block());
    commands.extend(ops.iter().flat_map(of));
    commands
}

/// The commands that make `block` all there is of a scope, of which `present` is there.
fn diff(reach: Reach, present: &[&Rule], scope: Prefix, block: Option<&Block>) -> Vec<String> {
    let mut commands = block.map_or_else(Vec::new, |block| rules_of(reach, scope, block));
    if present.len() == commands.len() && present.iter().zip(&commands).all(|(rule, wanted)| rule.is(wanted))
    {
        return Vec::new();
    }
    // The new ones first, and -D deletes the first that is the same, which is an old one.
    commands.extend(present.iter().map(|rule| rule.deletion()));
    commands
}

/// The blocks that rules are, one for each scope. One is damaged that is not made of exactly the rules that a block like it
/// has: some are missing, or were made by other flags.
pub(super) fn entries(reach: Reach, rules: &Rules) -> Vec<Entry> {
    let of = |(scope, present): (Prefix, Vec<&Rule>)| {
        let joined = present.iter().filter_map(|rule| entry(rule)).reduce(|a, b| a.joined(&b));
        // A rule of somebody else's, which is deleted.
        let Some(joined) = joined else { return Entry { damaged: true, ..Entry::new(scope, None, None) } };
        let damaged = !diff(reach, &present, scope, Some(&Block::from(&joined))).is_empty();
        Entry { damaged, ..joined }
    };
    by_scope(rules).into_iter().map(of).collect()
}

#[cfg(test)]
mod tests;
