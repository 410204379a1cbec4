//! The rules of iptables that ask ipset's sets, in the words in which `iptables -S` lists them. Writes text, runs nothing.

use super::super::place::{BUILTIN, DROP, answers};
use super::super::rules::{Rule, Rules};
use super::elements::{is_of_ports, set, set_of_ports};
use crate::extent::Extent;

/// What spares connections.
const UNSPARED: &str = "-m conntrack ! --ctstate RELATED,ESTABLISHED ";

/// Whether a rule asks one of our sets.
pub(super) fn is_ours(rule: &Rule, ipv4: bool) -> bool {
    rule.value("--match-set").is_some_and(|name| [set(ipv4), set_of_ports(ipv4)].contains(&name))
}

/// Whether any rule of a family does.
pub(in super::super) fn has_any(rules: &Rules, ipv4: bool) -> bool {
    BUILTIN.iter().any(|chain| rules.chain(chain).any(|rule| is_ours(rule, ipv4)))
}

/// The rules of a builtin chain, as `iptables -S` writes them.
pub(super) fn rules_of(extent: Extent, ipv4: bool, chain: &str, sets: &[&str]) -> Vec<String> {
    let spared = if extent.spares() { UNSPARED } else { "" };
    let mut rules = Vec::new();
    if chain == "INPUT" || (chain == "FORWARD" && extent.forward) {
        for set in sets {
            let from = if is_of_ports(set) { "src,dst" } else { "src" };
            let rule =
                |(only, end): (&str, &str)| format!("{only}{spared}-m set --match-set {set} {from} {end}");
            rules.extend(answers(extent, ipv4).into_iter().map(rule));
        }
    }
    if extent.egress && (chain == "OUTPUT" || (chain == "FORWARD" && extent.forward)) {
        for set in sets {
            let to = if is_of_ports(set) { "dst,src" } else { "dst" };
            rules.push(format!("{spared}-m set --match-set {set} {to} {DROP}"));
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flag_has_its_rules() {
        let sets = ["psentry4", "psentry4_ports"];
        let rules = |extent, chain| rules_of(extent, true, chain, &sets).join("\n");
        let plain =
            "-m set --match-set psentry4 src -j DROP\n-m set --match-set psentry4_ports src,dst -j DROP";
        assert_eq!(rules(Extent::default(), "INPUT"), plain);
        assert_eq!(rules(Extent::default(), "FORWARD"), plain);
        assert_eq!(rules(Extent::default(), "OUTPUT"), "");
        let local = Extent { forward: false, egress: true, ..Extent::default() };
        assert_eq!(rules(local, "FORWARD"), "");
        assert_eq!(
            rules(local, "OUTPUT"),
            "-m set --match-set psentry4 dst -j DROP\n-m set --match-set psentry4_ports dst,src -j DROP"
        );
        let spare = Extent {
            answer: crate::extent::Answer::Reject,
            standing: crate::extent::Standing::Spared,
            ..Extent::default()
        };
        assert_eq!(
            rules_of(spare, false, "INPUT", &sets[..1]),
            [
                "-p tcp -m conntrack ! --ctstate RELATED,ESTABLISHED -m set --match-set psentry4 src -j REJECT \
                 --reject-with tcp-reset",
                "-m conntrack ! --ctstate RELATED,ESTABLISHED -m set --match-set psentry4 src -j REJECT \
                 --reject-with icmp6-adm-prohibited",
            ]
        );
    }
}
