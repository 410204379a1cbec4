//! Why blocks that are there have no effect: a rule before ours accepts, or nothing leads to them. Reads rules, and changes
//! none.

use super::rule_text::{Rule, Rules};
use super::{is_psentry, jump_rules::BUILTIN};

/// How deep chains are followed.
const DEEP: u32 = 8;

/// The rules before ours that may accept a packet, each as a sentence; or that nothing in INPUT is `ours`.
pub(super) fn reasons(rules: &Rules, ipv4: bool, ours: impl Fn(&Rule) -> bool) -> Vec<String> {
    let program = if ipv4 { "iptables" } else { "ip6tables" };
    if !rules.chain("INPUT").any(&ours) {
        return vec![format!("'{program} -S INPUT' has no rule of psentry: its blocks have no effect")];
    }
    let chains = BUILTIN.into_iter().filter(|chain| rules.chain(chain).any(&ours));
    let before = chains.flat_map(|chain| rules.chain(chain).take_while(|rule| !is_psentry(rule)));
    let accepting = before.filter(|rule| accepts(rules, rule, DEEP)).map(Rule::line);
    let sentence =
        |rule| format!("'{program} {rule}' comes before psentry's rule: what it accepts is not blocked");
    accepting.map(sentence).collect()
}

/// Whether a rule, or a rule in the chain that it leads to, accepts packets. What goes over loopback is accepted by
/// everybody, and no stranger's.
fn accepts(rules: &Rules, rule: &Rule, deep: u32) -> bool {
    if rule.value("-i") == Some("lo") {
        return false;
    }
    match rule.target() {
        Some("ACCEPT") => true,
        Some(chain) if deep > 0 => rules.chain(chain).any(|rule| accepts(rules, rule, deep - 1)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_accepts_counts_whether_it_says_so_itself_or_its_chain_does() {
        let rules = Rules::read(
            "-P INPUT ACCEPT\n-N PSENTRY\n-N f2b\n-N ufw\n-N loop\n\
             -A INPUT -i lo -j ACCEPT\n-A INPUT -j f2b\n-A INPUT -j ufw\n-A INPUT -j loop\n\
             -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT\n-A INPUT -j PSENTRY\n-A INPUT -j ACCEPT\n\
             -A f2b -s 192.0.2.7/32 -j REJECT\n-A f2b -j RETURN\n\
             -A ufw -p tcp --dport 22 -j ACCEPT\n-A loop -j loop\n",
        );
        let is_jump = |rule: &Rule| rule.target() == Some("PSENTRY");
        let comes_before =
            |rule| format!("'iptables {rule}' comes before psentry's rule: what it accepts is not blocked");
        let before = ["-A INPUT -j ufw", "-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT"];
        assert_eq!(reasons(&rules, true, is_jump), before.map(comes_before));
        let none = reasons(&rules, false, |rule| rule.target() == Some("PSENTRY-OUT"));
        assert_eq!(none, ["'ip6tables -S INPUT' has no rule of psentry: its blocks have no effect"]);
    }
}
