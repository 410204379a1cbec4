//! Blocks as the rules of iptables that they are: the commands that make them of what is there, and what is there as blocks. Reads and
//! writes text, runs nothing.

use std::collections::BTreeMap;

use psentry_records::{Prefix, Proto};

use super::super::rules::{DROP, Rule, Rules, answers};
use super::chains::{CHAINS, is_egress, is_unproven};
use crate::backend::Op;
use crate::block::{Block, Entry};
use crate::note::{self, Noted};
use crate::reach::Reach;

/// The transports that have ports: the names, and the numbers of IANA.
const TRANSPORTS: [(&str, u8, Proto); 2] = [("tcp", 6, Proto::Tcp), ("udp", 17, Proto::Udp)];

/// How many ports a rule takes.
const PORTS: usize = 15;

/// The rules that a block is in one of our chains, as `iptables -S` writes them.
fn rules_of(reach: Reach, chain: &str, scope: Prefix, block: &Block) -> Vec<String> {
    let note = format!("-m comment --comment \"{}{}\"", distinction(scope), note::write(block));
    let (addr, ports, answers) = match is_egress(chain) {
        _ if is_unproven(chain) != block.unproven => return Vec::new(),
        false => ("-s", "--dports", answers(reach, scope.is_ipv4())),
        true if !reach.egress => return Vec::new(),
        true => ("-d", "--sports", vec![("", DROP)]),
    };
    if block.ports.is_empty() {
        return answers.iter().map(|(only, end)| format!("{addr} {scope} {only}{note} {end}")).collect();
    }
    let mut rules = Vec::new();
    for name in
        TRANSPORTS.iter().filter(|(_, number, _)| block.transports().contains(number)).map(|(name, ..)| *name)
    {
        // TCP is reset; there is one answer to each of the others.
        let answer = if name == "tcp" { answers.first() } else { answers.last() };
        let end = answer.map_or(DROP, |(_, end)| end);
        for chunk in block.ports.chunks(PORTS) {
            let list: Vec<String> = chunk.iter().map(u16::to_string).collect();
            rules.push(format!(
                "{addr} {scope} -p {name} -m multiport {ports} {} {note} {end}",
                list.join(",")
            ));
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
fn entry(chain: &str, rule: &Rule) -> Option<Entry> {
    let (scope, comment) = (rule.scope()?, rule.comment()?);
    let note = comment.strip_prefix(&distinction(scope)).unwrap_or(comment);
    let Noted { rule: name, since, until, .. } = note::read(note)?;
    // The chain decides what it does, whatever its note says.
    let mut entry = Entry { since, unproven: is_unproven(chain), ..Entry::new(scope, until, name) };
    if let Some(ports) = rule.value("--dports").or_else(|| rule.value("--sports")) {
        entry.ports = ports.split(',').map(str::parse).collect::<Result<_, _>>().ok()?;
        entry.proto =
            TRANSPORTS.iter().find(|(name, ..)| rule.value("-p") == Some(name)).map(|(.., proto)| *proto);
    }
    Some(entry)
}

/// The rules of our chains by whom they block, each with its chain.
pub(super) type ByScope<'a> = BTreeMap<Prefix, Vec<(&'static str, &'a Rule)>>;

pub(super) fn by_scope(rules: &Rules) -> ByScope<'_> {
    let mut scopes = ByScope::new();
    for chain in CHAINS {
        for rule in rules.chain(chain) {
            if let Some(scope) = rule.scope() {
                scopes.entry(scope).or_default().push((chain, rule));
            }
        }
    }
    scopes
}

/// The commands of one operation.
pub(super) fn commands(reach: Reach, rules: &ByScope<'_>, op: &Op) -> Vec<String> {
    diff(reach, rules, op.scope(), op.block())
}

/// The commands that make `block` all there is of a scope.
fn diff(reach: Reach, rules: &ByScope<'_>, scope: Prefix, block: Option<&Block>) -> Vec<String> {
    let present = rules.get(&scope).map_or(&[][..], Vec::as_slice);
    let mut commands = Vec::new();
    for chain in CHAINS {
        let old: Vec<&Rule> = present.iter().filter(|(of, _)| *of == chain).map(|(_, rule)| *rule).collect();
        let wanted = block.map_or_else(Vec::new, |block| rules_of(reach, chain, scope, block));
        if old.len() != wanted.len() || !old.iter().zip(&wanted).all(|(rule, wanted)| rule.is(wanted)) {
            // The new ones first, and -D deletes the first that is the same, which is an old one.
            commands.extend(wanted.iter().map(|rule| format!("-A {chain} {rule}")));
            commands.extend(old.iter().map(|rule| rule.deletion()));
        }
    }
    commands
}

/// The blocks that rules are, one for each scope. One is damaged that is not made of exactly the rules that a block like it
/// has: some are missing, or were made by other flags.
pub(super) fn entries(reach: Reach, rules: &ByScope<'_>) -> Vec<Entry> {
    let of = |(scope, present): (&Prefix, &Vec<(&'static str, &Rule)>)| {
        let read = present.iter().filter_map(|(chain, rule)| entry(chain, rule));
        let joined = read.reduce(|a, b| a.joined(&b));
        // A rule of somebody else's, which is deleted.
        let Some(joined) = joined else { return Entry { damaged: true, ..Entry::new(*scope, None, None) } };
        let damaged = !diff(reach, rules, *scope, Some(&Block::from(&joined))).is_empty();
        Entry { damaged, ..joined }
    };
    rules.iter().map(of).collect()
}

#[cfg(test)]
mod tests;
