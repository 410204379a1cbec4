//! The changes of a plan as text for `nft -f -`: they are rare, and text can be read. Only hash sets: nft and the kernel
//! read a whole set of intervals for each change (measured: seconds). A prefix matches by its masked address in the set of
//! its length, so that no two sets overlap.

use super::ruleset_plan::{Action, Hook, Plan, Rule};
use super::set_id::{SIZE, SetId};

/// The table, in the family `inet`; all of it is psentry-block's.
pub(super) const TABLE: &str = "psentry";

/// The comment of the table.
const ADVICE: &str = "kept by psentry-block(8), which repairs it; 'psentry-block unblock CIDR' ends one block, 'psentry-block flush' all";

/// The comments of the rules that accept. They are recognised by them, also those of psentry-block of another version: another
/// text would leave the old rules in the chain, as rules of others.
pub(super) const SPARE: &str = "connections that stand go on";
pub(super) const SPARE_TCP: &str = "TCP that begins nothing goes on";

/// Wakes a dormant table: `add` without the flag.
pub(super) fn wake() -> String {
    format!("add table inet {TABLE}\n")
}

/// Carries out a plan, in one transaction: the table, which `add` leaves alone where it exists, then what is deleted, and what
/// is added. `comments`: whether nft knows comments of tables.
pub(super) fn text(plan: &Plan, comments: bool) -> String {
    let advice = if comments { format!(" {{ comment \"{ADVICE}\"; }}") } else { String::new() };
    let mut text = format!("add table inet {TABLE}{advice}\n");
    for (chain, handle) in &plan.delete_rules {
        text.push_str(&format!("delete rule inet {TABLE} {} handle {handle}\n", chain.name()));
    }
    // Chains of others may jump to each other, and their maps to chains.
    for (verb, names) in [
        ("flush chain", &plan.delete_chains),
        ("delete set", &plan.delete_sets),
        ("delete chain", &plan.delete_chains),
    ] {
        text.extend(names.iter().map(|name| format!("{verb} inet {TABLE} {name}\n")));
    }
    for chain in &plan.add_chains {
        let (name, hook, priority) = (chain.name(), chain.hook.name(), chain.priority());
        text.push_str(&format!(
            "add chain inet {TABLE} {name} {{ type filter hook {hook} priority {priority}; policy accept; }}\n"
        ));
    }
    text.extend(plan.add_sets.iter().map(|set| set.text()));
    text.extend(plan.add_rules.iter().map(|rule| rule.text()));
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
    fn lookup(self, hook: Hook) -> String {
        let family = if self.ipv4 { "ip" } else { "ip6" };
        let whole = self.len == if self.ipv4 { 32 } else { 128 };
        let mask = if whole { String::new() } else { format!(" & {}", self.mask()) };
        let (addr, port) = if hook.is_egress() { ("daddr", "sport") } else { ("saddr", "dport") };
        let ports = if self.ports { format!(" . meta l4proto . th {port}") } else { String::new() };
        format!("{family} {addr}{mask}{ports} @{}", self.name())
    }
}

impl Rule {
    fn text(self) -> String {
        let chain = format!("rule inet {TABLE} {}", self.chain.name());
        let lookup = |set: SetId| set.lookup(self.chain.hook);
        match self.action {
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
                format!(
                    "add {chain} meta l4proto != tcp {} counter reject with icmpx admin-prohibited\n",
                    lookup(set)
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reach::{Answer, Established, Reach};
    use psentry_records::Prefix;
    use std::collections::BTreeSet;

    /// The chains and rules for these scopes, and for ports of the last.
    fn lines(reach: Reach, scopes: &[&str]) -> Vec<String> {
        let scopes: Vec<Prefix> = scopes.iter().map(|scope| scope.parse().unwrap()).collect();
        let mut sets: BTreeSet<SetId> = scopes.iter().map(|scope| SetId::all(*scope)[0]).collect();
        sets.extend(scopes.last().map(|scope| SetId::all(*scope)[1]));
        lines_of(reach, &sets)
    }

    fn lines_of(reach: Reach, sets: &BTreeSet<SetId>) -> Vec<String> {
        let plan = Plan::new(reach, sets, sets, &Default::default());
        let text = text(&plan, false);
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
                "add chain postrouting_tracked { type filter hook postrouting priority -300; policy accept; }",
                "insert rule prerouting_tracked tcp flags & (rst | ack) != 0 accept comment \"TCP that begins nothing goes on\"",
                "insert rule prerouting_tracked ct state established,related accept comment \"connections that stand go on\"",
                "add rule prerouting_tracked ip saddr @v4_32 counter drop",
                "add rule prerouting_tracked ip saddr . meta l4proto . th dport @v4_32_ports counter drop",
                "insert rule postrouting_tracked tcp flags & (rst | ack) != 0 accept comment \"TCP that begins nothing goes on\"",
                "insert rule postrouting_tracked ct state established,related accept comment \"connections that stand go on\"",
                "add rule postrouting_tracked ip daddr @v4_32 counter drop",
                "add rule postrouting_tracked ip daddr . meta l4proto . th sport @v4_32_ports counter drop",
            ]
        );
        let reach = Reach { egress: true, forward: false, ..reach };
        assert_eq!(
            lines(reach, &["192.0.2.7"])[1],
            "add chain output_tracked { type filter hook output priority -190; policy accept; }"
        );
    }

    #[test]
    fn what_is_not_proven_has_a_chain_behind_connection_tracking() {
        let [whole, _, unproven, ports] = SetId::all("192.0.2.7".parse().unwrap());
        assert_eq!(
            lines_of(Reach::default(), &[whole, unproven, ports].into()),
            [
                "add chain prerouting { type filter hook prerouting priority -300; policy accept; }",
                "add chain prerouting_tracked { type filter hook prerouting priority -190; policy accept; }",
                "add rule prerouting ip saddr @v4_32 counter drop",
                "insert rule prerouting_tracked tcp flags & (rst | ack) != 0 accept comment \"TCP that begins nothing goes on\"",
                "insert rule prerouting_tracked ct state established,related accept comment \"connections that stand go on\"",
                "add rule prerouting_tracked ip saddr @v4_32_unproven counter drop",
                "add rule prerouting_tracked ip saddr . meta l4proto . th dport @v4_32_unproven_ports counter drop",
            ]
        );
    }

    #[test]
    fn the_table_says_whose_it_is_within_what_nft_takes() {
        assert!(ADVICE.len() <= 127 && SPARE.len() <= 127);
        assert!(text(&Plan::default(), true).contains("{ comment \"kept by psentry-block(8)"));
        assert_eq!(text(&Plan::default(), false), "add table inet psentry\n");
    }
}
