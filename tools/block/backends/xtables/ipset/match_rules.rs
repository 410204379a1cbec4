//! The rules of iptables that ask ipset's sets, in the words in which `iptables -S` lists them. Writes text, runs nothing.

use super::super::FAMILIES;
use super::super::rules::{DROP, NOT_TCP, Rule, TCP_ONLY, answers};
use super::sets::{is_of_ports, is_unproven, sets};
use crate::reach::Reach;

/// What spares connections, and what TCP that begins nothing: it belongs to what is established, or is answered with a
/// reset. So connections that were there before anything was tracked are spared, too.
const UNSPARED: &str = "-m conntrack ! --ctstate RELATED,ESTABLISHED ";
const BEGINS: &str = "-m tcp --tcp-flags RST,ACK NONE ";

/// Whether a rule asks one of our sets.
pub(in super::super) fn is_match(rule: &Rule) -> bool {
    let is_set = |name| FAMILIES.iter().any(|ipv4| sets(*ipv4).contains(&name));
    rule.value("--match-set").is_some_and(is_set)
}

/// The rules of a builtin chain, as `iptables -S` writes them.
pub(super) fn rules_of(reach: Reach, ipv4: bool, chain: &str, sets: &[&str]) -> Vec<String> {
    let mut rules = Vec::new();
    if chain == "INPUT" || (chain == "FORWARD" && reach.forward) {
        for set in sets {
            let from = if is_of_ports(set) { "src,dst" } else { "src" };
            let rule = |(only, end): (String, &str)| format!("{only}-m set --match-set {set} {from} {end}");
            rules.extend(conditions(reach, set, answers(reach, ipv4)).into_iter().map(rule));
        }
    }
    if reach.egress && (chain == "OUTPUT" || (chain == "FORWARD" && reach.forward)) {
        for set in sets {
            let to = if is_of_ports(set) { "dst,src" } else { "dst" };
            let rule = |(only, end): (String, &str)| format!("{only}-m set --match-set {set} {to} {end}");
            rules.extend(conditions(reach, set, vec![("", DROP)]).into_iter().map(rule));
        }
    }
    rules
}

/// What packets the rules of a set take, each with what becomes of them: the first answer is for TCP, the last for the rest.
fn conditions(
    reach: Reach,
    set: &str,
    answers: Vec<(&'static str, &'static str)>,
) -> Vec<(String, &'static str)> {
    if !reach.spares(is_unproven(set)) {
        return answers.into_iter().map(|(only, end)| (only.to_owned(), end)).collect();
    }
    let tcp = answers.first().map(|(_, end)| (format!("{TCP_ONLY}{BEGINS}{UNSPARED}"), *end));
    let rest = answers.last().map(|(_, end)| (format!("{NOT_TCP}{UNSPARED}"), *end));
    tcp.into_iter().chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flag_has_its_rules() {
        let sets = ["psentry4", "psentry4_ports"];
        let rules = |reach, chain| rules_of(reach, true, chain, &sets).join("\n");
        let plain =
            "-m set --match-set psentry4 src -j DROP\n-m set --match-set psentry4_ports src,dst -j DROP";
        assert_eq!(rules(Reach::default(), "INPUT"), plain);
        assert_eq!(rules(Reach::default(), "FORWARD"), plain);
        assert_eq!(rules(Reach::default(), "OUTPUT"), "");
        let local = Reach { forward: false, egress: true, ..Reach::default() };
        assert_eq!(rules(local, "FORWARD"), "");
        assert_eq!(
            rules(local, "OUTPUT"),
            "-m set --match-set psentry4 dst -j DROP\n-m set --match-set psentry4_ports dst,src -j DROP"
        );
        let spare = Reach {
            answer: crate::reach::Answer::Reject,
            established: crate::reach::Established::Spared,
            ..Reach::default()
        };
        assert_eq!(
            rules_of(spare, false, "INPUT", &sets[..1]),
            [
                "-p tcp -m tcp --tcp-flags RST,ACK NONE -m conntrack ! --ctstate RELATED,ESTABLISHED -m set \
                 --match-set psentry4 src -j REJECT --reject-with tcp-reset",
                "! -p tcp -m conntrack ! --ctstate RELATED,ESTABLISHED -m set --match-set psentry4 src -j REJECT \
                 --reject-with icmp6-adm-prohibited",
            ]
        );
        let egress = Reach { egress: true, ..Reach::default() };
        assert_eq!(
            rules_of(egress, true, "OUTPUT", &["psentry4", "psentry4_unproven"]),
            [
                "-m set --match-set psentry4 dst -j DROP",
                "-p tcp -m tcp --tcp-flags RST,ACK NONE -m conntrack ! --ctstate RELATED,ESTABLISHED -m set \
                 --match-set psentry4_unproven dst -j DROP",
                "! -p tcp -m conntrack ! --ctstate RELATED,ESTABLISHED -m set --match-set psentry4_unproven dst \
                 -j DROP",
            ]
        );
    }
}
