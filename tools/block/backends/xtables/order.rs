//! What stands before psentry's rules in INPUT and FORWARD: a packet that an earlier rule accepts never comes to ours. An administrator
//! may want that, so it is told, once for each rule, and not mended.

use std::collections::BTreeSet;

use super::Filter;
use super::rules::{Rule, Rules};

/// How deep chains are followed.
const DEEP: u32 = 8;

/// The chains in which that counts.
const CHAINS: [&str; 2] = ["INPUT", "FORWARD"];

/// What has been told.
#[derive(Default)]
pub(super) struct Order {
    known: BTreeSet<String>,
    told: Vec<String>,
}

impl Order {
    /// Looks at the rules of a family; `ours` knows our rule.
    pub(super) fn look(&mut self, filter: &Filter, rules: &Rules, ours: impl Fn(&Rule) -> bool) {
        let family = filter.program();
        let stands = |chain: &&str| rules.chain(chain).any(&ours);
        for chain in CHAINS.into_iter().filter(stands) {
            let before = rules.chain(chain).take_while(|rule| !ours(rule));
            for rule in before.filter(|rule| accepts(rules, rule, DEEP)) {
                let line = rule.line();
                if self.known.insert(format!("{family} {line}")) {
                    self.told.push(format!(
                        "'{family} {line}' stands before psentry's rule: whom it accepts is not shut out; move one of \
                         them if that is not meant"
                    ));
                }
            }
        }
    }

    /// What is to be told now.
    pub(super) fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }
}

/// Whether a rule, or a rule in the chain that it leads to, accepts packets. What goes over loopback is let through by
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
             -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT\n-A INPUT -j PSENTRY\n\
             -A f2b -s 192.0.2.7/32 -j REJECT\n-A f2b -j RETURN\n\
             -A ufw -p tcp --dport 22 -j ACCEPT\n-A loop -j loop\n",
        );
        let found: Vec<&str> =
            rules.chain("INPUT").filter(|rule| accepts(&rules, rule, DEEP)).map(Rule::line).collect();
        assert_eq!(found, ["-A INPUT -j ufw", "-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT"]);
    }
}
