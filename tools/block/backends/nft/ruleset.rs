//! Which chains and rules the flags ask for, and the text for `nft -f -` that makes them: it is rarely run, and text can be read. The
//! table is ours alone: whatever else is in it is deleted, for a rule that accepts would come before a block. Where anything is not as
//! it should be, all rules are made anew, in one transaction of which no packet sees the middle.
//!
//! Only hash sets: nft and the kernel read a whole set of intervals for each change (measured: seconds). A prefix matches by its
//! masked address in the set of its length, so that no two sets overlap. Pure: `ensure_ruleset.rs` reads and changes.

use std::collections::{BTreeMap, BTreeSet};

use super::set_id::{SIZE, SetId};
use crate::reach::{Answer, Reach};

/// The table, in the family `inet`; all of it is psentry-block's.
pub(super) const TABLE: &str = "psentry";

/// The comment of the table.
const ADVICE: &str = "kept by psentry-block(8), which repairs it; 'psentry-block unblock CIDR' ends one block, 'psentry-block flush' all";

/// The comments of the rules that accept. They are recognised by them.
pub(super) const SPARE: &str = "connections that stand go on";
pub(super) const SPARE_TCP: &str = "TCP that begins nothing goes on";

/// Before connection tracking: a packet that is dropped there costs least (linux/netfilter_ipv4.h).
const RAW: i32 = -300;

/// Behind connection tracking, which is at -200, and before all that rewrites addresses.
const TRACKED: i32 = -190;

/// Where in the kernel a chain sees packets.
#[derive(Debug)]
struct Hook {
    /// The kernel's number (linux/netfilter.h).
    number: u32,
    name: &'static str,
    /// Whether packets go to the source there, and do not come from it.
    is_egress: bool,
    /// The priority behind connection tracking.
    tracked: i32,
}

/// All that comes in; what is for this machine; what this machine sends; all that goes out. Input and postrouting are behind
/// connection tracking anyway.
const PREROUTING: Hook = Hook { number: 0, name: "prerouting", is_egress: false, tracked: TRACKED };
const INPUT: Hook = Hook { number: 1, name: "input", is_egress: false, tracked: RAW };
const OUTPUT: Hook = Hook { number: 3, name: "output", is_egress: true, tracked: TRACKED };
const POSTROUTING: Hook = Hook { number: 4, name: "postrouting", is_egress: true, tracked: RAW };

/// A chain of ours.
#[derive(Debug)]
pub(super) struct Chain {
    name: String,
    hook: &'static Hook,
    priority: i32,
    rules: Vec<Action>,
}

/// What a rule of ours does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Accepts what belongs to established connections.
    Spare,
    /// Accepts TCP that begins no connection: it belongs to an established one, or is answered with a reset. So connections are
    /// spared that were established before anything was tracked.
    SpareTcp,
    /// Drops what is in the set.
    Drop(SetId),
    /// Resets TCP of what is in the set.
    Reset(SetId),
    /// Answers all else that is in the set by ICMP.
    Refuse(SetId),
}

/// A chain as it was found.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FoundChain {
    /// The number of its hook and its priority, if it has a hook.
    pub(super) at: Option<(u32, i32)>,
    /// What its rules do, in their order; `None`: nothing that ours do.
    pub(super) rules: Vec<Option<Action>>,
}

/// What there is of our table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Found {
    /// The sets that are ours.
    pub(super) sets: BTreeSet<SetId>,
    /// Sets of others, and those under a name of ours that are not as ours are.
    pub(super) wrong_sets: Vec<String>,
    /// All chains by their names.
    pub(super) chains: BTreeMap<String, FoundChain>,
}

/// The chains with the rules for these sets. Blocked sources are answered; what goes to them is only dropped. The kernel tracks
/// connections once a chain asks for them: not before something is to be spared.
pub(super) fn chains(reach: Reach, sets: &BTreeSet<SetId>) -> Vec<Chain> {
    let (ingress, egress) = if reach.forward { (&PREROUTING, &POSTROUTING) } else { (&INPUT, &OUTPUT) };
    let mut chains = Vec::new();
    for hook in [ingress].into_iter().chain(reach.egress.then_some(egress)) {
        for tracked in [false, true] {
            let sets = || sets.iter().copied().filter(|set| reach.spares(set.unproven) == tracked);
            let mut rules = if tracked { vec![Action::Spare, Action::SpareTcp] } else { Vec::new() };
            if reach.answer == Answer::Reject && !hook.is_egress {
                rules.extend(sets().map(Action::Reset).chain(sets().map(Action::Refuse)));
            } else {
                rules.extend(sets().map(Action::Drop));
            }
            let name = format!("{}{}", hook.name, if tracked { "_tracked" } else { "" });
            let priority = if tracked { hook.tracked } else { RAW };
            chains.extend(sets().next().map(|_| Chain { name, hook, priority, rules }));
        }
    }
    chains
}

impl Chain {
    /// As it is found once it is made.
    pub(super) fn found(&self) -> (String, FoundChain) {
        let (at, rules) = (Some((self.hook.number, self.priority)), self.rules.iter().copied().map(Some));
        (self.name.clone(), FoundChain { at, rules: rules.collect() })
    }
}

/// Wakes a dormant table: `add` without the flag.
pub(super) fn wake() -> String {
    format!("add table inet {TABLE}\n")
}

/// Makes these chains and those of `sets` that are missing of what was found, in one transaction: the table, which `add` leaves alone
/// where it exists, then what is deleted, and what is added. `comments`: whether nft knows comments of tables.
pub(super) fn text(chains: &[Chain], sets: &BTreeSet<SetId>, found: &Found, comments: bool) -> String {
    let advice = if comments { format!(" {{ comment \"{ADVICE}\"; }}") } else { String::new() };
    let mut text = format!("add table inet {TABLE}{advice}\n");
    let mut each = |verb: &str, names: &mut dyn Iterator<Item = &String>| {
        text.extend(names.map(|name| format!("{verb} inet {TABLE} {name}\n")));
    };
    let wanted: BTreeMap<String, FoundChain> = chains.iter().map(Chain::found).collect();
    let is_wrong =
        |(name, chain): &(&String, &FoundChain)| wanted.get(*name).is_none_or(|wanted| wanted.at != chain.at);
    // Chains of others may jump to each other, and their maps to chains.
    each("flush chain", &mut found.chains.keys());
    each("delete set", &mut found.wrong_sets.iter());
    each("delete chain", &mut found.chains.iter().filter(is_wrong).map(|(name, _)| name));
    text.extend(sets.difference(&found.sets).map(|set| set.text()));
    for Chain { name, hook, priority, rules } in chains {
        let at = format!("type filter hook {} priority {priority}; policy accept;", hook.name);
        text.push_str(&format!("add chain inet {TABLE} {name} {{ {at} }}\n"));
        let rule = |rule: &Action| format!("add rule inet {TABLE} {name} {}\n", rule.text(hook.is_egress));
        text.extend(rules.iter().map(rule));
    }
    text
}

impl SetId {
    /// `create` fails if the set exists, and with it the whole transaction: then another process was faster, and its rules are
    /// there as well.
    fn text(self) -> String {
        let addr = if self.ipv4 { "ipv4_addr" } else { "ipv6_addr" };
        let kind = if self.ports { format!("{addr} . inet_proto . inet_service") } else { addr.to_owned() };
        format!("create set inet {TABLE} {} {{ type {kind}; flags timeout; size {SIZE}; }}\n", self.name())
    }

    /// What of a packet is looked up in the set: its source, or its destination.
    fn lookup(self, is_egress: bool) -> String {
        let family = if self.ipv4 { "ip" } else { "ip6" };
        let whole = self.len == if self.ipv4 { 32 } else { 128 };
        let mask = if whole { String::new() } else { format!(" & {}", self.mask()) };
        let (addr, port) = if is_egress { ("daddr", "sport") } else { ("saddr", "dport") };
        let ports = if self.ports { format!(" . meta l4proto . th {port}") } else { String::new() };
        format!("{family} {addr}{mask}{ports} @{}", self.name())
    }
}

impl Action {
    fn text(self, is_egress: bool) -> String {
        let lookup = |set: SetId| set.lookup(is_egress);
        match self {
            Action::Spare => format!("ct state established,related accept comment \"{SPARE}\""),
            Action::SpareTcp => format!("tcp flags & (rst | ack) != 0 accept comment \"{SPARE_TCP}\""),
            Action::Drop(set) => format!("{} counter drop", lookup(set)),
            Action::Reset(set) => format!("meta l4proto tcp {} counter reject with tcp reset", lookup(set)),
            Action::Refuse(set) => {
                format!("meta l4proto != tcp {} counter reject with icmpx admin-prohibited", lookup(set))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reach::Established;
    use psentry_records::Prefix;

    /// The chains and rules for these scopes, and for ports of the last.
    fn lines(reach: Reach, scopes: &[&str]) -> Vec<String> {
        let scopes: Vec<Prefix> = scopes.iter().map(|scope| scope.parse().unwrap()).collect();
        let mut sets: BTreeSet<SetId> = scopes.iter().map(|scope| SetId::all(*scope)[0]).collect();
        sets.extend(scopes.last().map(|scope| SetId::all(*scope)[1]));
        lines_of(reach, &sets)
    }

    fn lines_of(reach: Reach, sets: &BTreeSet<SetId>) -> Vec<String> {
        let text = text(&chains(reach, sets), sets, &Found::default(), false);
        let of = |line: &&str| line.contains(" rule ") || line.contains(" chain ");
        text.lines().filter(of).map(|line| line.replace("inet psentry ", "")).collect()
    }

    #[test]
    fn the_ruleset_is_readable() {
        let scopes = ["198.51.96.0/20", "2001:db8::/64", "2001:db8::1/128", "192.0.2.7/32"];
        assert_eq!(
            lines(Reach::default(), &scopes),
            [
                "add chain prerouting { type filter hook prerouting priority -300; policy accept; }",
                "add rule prerouting ip6 saddr & ffff:ffff:ffff:ffff:: @v6_64 counter drop",
                "add rule prerouting ip6 saddr @v6_128 counter drop",
                "add rule prerouting ip saddr & 255.255.240.0 @v4_20 counter drop",
                "add rule prerouting ip saddr @v4_32 counter drop",
                "add rule prerouting ip saddr . meta l4proto . th dport @v4_32_ports counter drop",
            ]
        );
    }

    #[test]
    fn each_flag_has_its_rules() {
        let reach = Reach { answer: Answer::Reject, forward: false, ..Reach::default() };
        assert_eq!(
            lines(reach, &["192.0.2.0/24"]),
            [
                "add chain input { type filter hook input priority -300; policy accept; }",
                "add rule input meta l4proto tcp ip saddr & 255.255.255.0 @v4_24 counter reject with tcp reset",
                "add rule input meta l4proto tcp ip saddr & 255.255.255.0 . meta l4proto . th dport @v4_24_ports \
                 counter reject with tcp reset",
                "add rule input meta l4proto != tcp ip saddr & 255.255.255.0 @v4_24 counter reject with icmpx admin-prohibited",
                "add rule input meta l4proto != tcp ip saddr & 255.255.255.0 . meta l4proto . th dport @v4_24_ports counter reject with \
                 icmpx admin-prohibited",
            ]
        );
        let reach = Reach { egress: true, established: Established::Spared, ..Reach::default() };
        assert_eq!(
            lines(reach, &["192.0.2.7"]),
            [
                "add chain prerouting_tracked { type filter hook prerouting priority -190; policy accept; }",
                "add rule prerouting_tracked ct state established,related accept comment \"connections that stand go on\"",
                "add rule prerouting_tracked tcp flags & (rst | ack) != 0 accept comment \"TCP that begins nothing goes on\"",
                "add rule prerouting_tracked ip saddr @v4_32 counter drop",
                "add rule prerouting_tracked ip saddr . meta l4proto . th dport @v4_32_ports counter drop",
                "add chain postrouting_tracked { type filter hook postrouting priority -300; policy accept; }",
                "add rule postrouting_tracked ct state established,related accept comment \"connections that stand go on\"",
                "add rule postrouting_tracked tcp flags & (rst | ack) != 0 accept comment \"TCP that begins nothing goes on\"",
                "add rule postrouting_tracked ip daddr @v4_32 counter drop",
                "add rule postrouting_tracked ip daddr . meta l4proto . th sport @v4_32_ports counter drop",
            ]
        );
        let reach = Reach { egress: true, forward: false, ..reach };
        let chain = "add chain output_tracked { type filter hook output priority -190; policy accept; }";
        assert!(lines(reach, &["192.0.2.7"]).contains(&chain.to_owned()));
    }

    #[test]
    fn what_is_not_proven_has_a_chain_behind_connection_tracking() {
        let [whole, _, unproven, ports] = SetId::all("192.0.2.7".parse().unwrap());
        assert_eq!(
            lines_of(Reach::default(), &[whole, unproven, ports].into()),
            [
                "add chain prerouting { type filter hook prerouting priority -300; policy accept; }",
                "add rule prerouting ip saddr @v4_32 counter drop",
                "add chain prerouting_tracked { type filter hook prerouting priority -190; policy accept; }",
                "add rule prerouting_tracked ct state established,related accept comment \"connections that stand go on\"",
                "add rule prerouting_tracked tcp flags & (rst | ack) != 0 accept comment \"TCP that begins nothing goes on\"",
                "add rule prerouting_tracked ip saddr @v4_32_unproven counter drop",
                "add rule prerouting_tracked ip saddr . meta l4proto . th dport @v4_32_unproven_ports counter drop",
            ]
        );
    }

    #[test]
    fn the_table_says_whose_it_is_within_what_nft_takes() {
        assert!(ADVICE.len() <= 127 && SPARE.len() <= 127);
        assert!(
            text(&[], &BTreeSet::new(), &Found::default(), true)
                .contains("{ comment \"kept by psentry-block(8)")
        );
        assert_eq!(text(&[], &BTreeSet::new(), &Found::default(), false), "add table inet psentry\n");
    }

    #[test]
    fn what_is_not_as_it_should_be_goes_and_all_rules_are_made_anew() {
        let sets = SetId::FIRST.into();
        let wanted = chains(Reach::default(), &sets);
        let right: BTreeMap<String, FoundChain> = wanted.iter().map(Chain::found).collect();
        let unhooked = FoundChain { at: None, rules: Vec::new() };
        let made = [("early", &unhooked), ("prerouting", &right["prerouting"])];
        let chains = made.map(|(name, chain)| (name.to_owned(), chain.clone())).into();
        let found = Found { sets, wrong_sets: vec!["v4_31".to_owned()], chains };
        assert_eq!(
            text(&wanted, &SetId::FIRST.into(), &found, false).replace("inet psentry ", ""),
            "add table inet psentry\nflush chain early\nflush chain prerouting\ndelete set v4_31\ndelete chain early\n\
             add chain prerouting { type filter hook prerouting priority -300; policy accept; }\n\
             add rule prerouting ip6 saddr & ffff:ffff:ffff:ffff:: @v6_64 counter drop\n\
             add rule prerouting ip saddr @v4_32 counter drop\n"
        );
        // One of ours that is at no hook is made anew.
        let found = Found { chains: [("prerouting".to_owned(), unhooked)].into(), ..found };
        assert!(
            text(&wanted, &SetId::FIRST.into(), &found, false)
                .contains("\ndelete chain inet psentry prerouting\n")
        );
    }

    #[test]
    fn where_all_is_spared_one_chain_is_enough() {
        let sets = SetId::all("192.0.2.7".parse().unwrap()).into();
        assert_eq!(chains(Reach::default(), &sets).len(), 2);
        let spares = Reach { established: Established::Spared, ..Reach::default() };
        assert_eq!(chains(spares, &sets).len(), 1);
        assert_eq!(chains(Reach { egress: true, ..spares }, &sets).len(), 2);
    }
}
