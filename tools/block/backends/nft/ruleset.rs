//! Which chains and rules the flags ask for, and the text for `nft -f -` that makes them: it is rarely run, and text can be read. The
//! table is ours alone: whatever else is in it is deleted, for a rule that accepts would come before a block. A chain in which there is
//! anything else is made anew, in one transaction of which no packet sees the middle.
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
pub(super) const SPARE: &str = "established connections pass";
pub(super) const SPARE_TCP: &str = "TCP packets with ACK or RST pass";

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
    rules: BTreeSet<Action>,
}

/// What a rule of ours does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Action {
    /// Accepts TCP that begins no connection: it belongs to an established one, or is answered with a reset. So connections are
    /// spared that were established before anything was tracked.
    SpareTcp,
    /// Accepts what belongs to established connections.
    Spare,
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
    /// What its rules do; `None`: nothing that ours do.
    pub(super) rules: BTreeSet<Option<Action>>,
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
            let mut rules = BTreeSet::new();
            if tracked {
                rules.extend([Action::SpareTcp, Action::Spare]);
            }
            if reach.answer == Answer::Reject && !hook.is_egress {
                rules.extend(sets().flat_map(|set| [Action::Reset(set), Action::Refuse(set)]));
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
    let wanted: BTreeMap<String, FoundChain> = chains.iter().map(Chain::found).collect();
    let is_kept = |(name, chain): &(&String, &FoundChain)| {
        let wanted = wanted.get(*name).filter(|wanted| wanted.at == chain.at);
        wanted.is_some_and(|wanted| wanted.rules.is_superset(&chain.rules))
    };
    let (kept, stale): (BTreeMap<_, _>, BTreeMap<_, _>) = found.chains.iter().partition(is_kept);
    let stale: Vec<&String> = stale.into_keys().collect();
    // Chains of others may jump to each other, and their maps to chains.
    let wrong_sets = found.wrong_sets.iter().collect();
    for (verb, names) in [("flush chain", &stale), ("delete set", &wrong_sets), ("delete chain", &stale)] {
        text.extend(names.iter().map(|name| format!("{verb} inet {TABLE} {name}\n")));
    }
    text.extend(sets.difference(&found.sets).map(|set| set.text()));
    for Chain { name, hook, priority, rules } in chains {
        let at = format!("type filter hook {} priority {priority}; policy accept;", hook.name);
        text.push_str(&format!("add chain inet {TABLE} {name} {{ {at} }}\n"));
        let is_missing =
            |rule: &&Action| !kept.get(name).is_some_and(|kept| kept.rules.contains(&Some(**rule)));
        let missing = rules.iter().filter(is_missing);
        text.extend(missing.map(|rule| rule.text(&format!("rule inet {TABLE} {name}"), hook.is_egress)));
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
    /// Puts it into a chain: what spares before what drops.
    fn text(self, chain: &str, is_egress: bool) -> String {
        let lookup = |set: SetId| set.lookup(is_egress);
        match self {
            Action::SpareTcp => {
                format!("insert {chain} tcp flags & (rst | ack) != 0 accept comment \"{SPARE_TCP}\"\n")
            }
            Action::Spare => {
                format!("insert {chain} ct state established,related accept comment \"{SPARE}\"\n")
            }
            Action::Drop(set) => format!("add {chain} {} counter drop\n", lookup(set)),
            Action::Reset(set) => {
                format!("add {chain} meta l4proto tcp {} counter reject with tcp reset\n", lookup(set))
            }
            Action::Refuse(set) => {
                let lookup = lookup(set);
                format!(
                    "add {chain} meta l4proto != tcp {lookup} counter reject with icmpx admin-prohibited\n"
                )
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
                "insert rule prerouting_tracked tcp flags & (rst | ack) != 0 accept comment \"TCP packets with ACK or RST pass\"",
                "insert rule prerouting_tracked ct state established,related accept comment \"established connections pass\"",
                "add rule prerouting_tracked ip saddr @v4_32 counter drop",
                "add rule prerouting_tracked ip saddr . meta l4proto . th dport @v4_32_ports counter drop",
                "add chain postrouting_tracked { type filter hook postrouting priority -300; policy accept; }",
                "insert rule postrouting_tracked tcp flags & (rst | ack) != 0 accept comment \"TCP packets with ACK or RST pass\"",
                "insert rule postrouting_tracked ct state established,related accept comment \"established connections pass\"",
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
                "insert rule prerouting_tracked tcp flags & (rst | ack) != 0 accept comment \"TCP packets with ACK or RST pass\"",
                "insert rule prerouting_tracked ct state established,related accept comment \"established connections pass\"",
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
    fn a_chain_with_anything_else_is_made_anew_and_what_is_missing_of_another_is_added() {
        let sets = BTreeSet::from(SetId::FIRST);
        let wanted = chains(Reach::default(), &sets);
        let change = |chains: &[(&str, &FoundChain)], wrong_sets: &[&str]| {
            let chains = chains.iter().map(|(name, chain)| ((*name).to_owned(), (*chain).clone())).collect();
            let wrong_sets = wrong_sets.iter().map(|name| (*name).to_owned()).collect();
            let found = Found { sets: sets.clone(), wrong_sets, chains };
            text(&wanted, &sets, &found, false).replace("inet psentry ", "")
        };
        let (_, right) = wanted[0].found();
        let chain = "add chain prerouting { type filter hook prerouting priority -300; policy accept; }\n";
        let [v4, v6] = [
            "add rule prerouting ip saddr @v4_32 counter drop\n",
            "add rule prerouting ip6 saddr & ffff:ffff:ffff:ffff:: @v6_64 counter drop\n",
        ];
        assert_eq!(change(&[("prerouting", &right)], &[]), format!("add table inet psentry\n{chain}"));
        let rules = [Some(Action::Drop(SetId::FIRST[0]))].into();
        let half = FoundChain { rules, ..right };
        assert_eq!(change(&[("prerouting", &half)], &[]), format!("add table inet psentry\n{chain}{v6}"));
        let rules = [None, Some(Action::Drop(SetId::FIRST[0]))].into();
        let anew = format!("delete chain prerouting\n{chain}{v6}{v4}");
        for wrong in [FoundChain { at: None, ..half.clone() }, FoundChain { rules, ..half }] {
            let made = change(&[("prerouting", &wrong)], &[]);
            assert_eq!(made, format!("add table inet psentry\nflush chain prerouting\n{anew}"));
        }
        let early = FoundChain { at: None, rules: BTreeSet::new() };
        assert_eq!(
            change(&[("a", &early), ("b", &early)], &["v4_31"]),
            format!(
                "add table inet psentry\nflush chain a\nflush chain b\ndelete set v4_31\ndelete chain a\ndelete chain b\n\
                 {chain}{v6}{v4}"
            )
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
