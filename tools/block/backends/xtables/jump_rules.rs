//! Our rules in builtin chains, such as INPUT, and the answers that they give. They are kept first: what another rule accepts
//! before them never comes to a block.

use super::is_psentry;
use super::rule_text::{Rule, Rules};
use crate::reach::{Answer, Reach};

/// The builtin chains that rules of ours may be in: those of other flags are found there, too, and deleted.
pub(super) const BUILTIN: [&str; 3] = ["INPUT", "FORWARD", "OUTPUT"];

/// The commands that make `wanted` all that is `ours` in a builtin chain, before the rules of everybody but psentry.
pub(super) fn place(
    rules: &Rules,
    chain: &str,
    wanted: &[String],
    ours: impl Fn(&Rule) -> bool,
) -> Vec<String> {
    let present: Vec<&Rule> = rules.chain(chain).filter(|rule| ours(rule)).collect();
    let first = rules.chain(chain).take_while(|rule| is_psentry(rule)).filter(|rule| ours(rule)).count();
    let as_wanted = |(rule, wanted): (&&Rule, &String)| rule.is(wanted);
    if first == wanted.len() && present.len() == first && present.iter().zip(wanted).all(as_wanted) {
        return Vec::new();
    }
    let places = wanted.iter().zip(1..);
    let insertions = places.map(|(rule, place)| format!("-I {chain} {place} {rule}"));
    present.into_iter().map(Rule::deletion).chain(insertions).collect()
}

/// The commands that delete all that is `ours`, in chains of others, too.
pub(super) fn deletions(rules: &Rules, ours: impl Fn(&Rule) -> bool) -> Vec<String> {
    rules.all().filter(|rule| ours(rule)).map(Rule::deletion).collect()
}

/// What makes a rule one for TCP, or for all else.
pub(super) const TCP_ONLY: &str = "-p tcp ";
pub(super) const NOT_TCP: &str = "! -p tcp ";

/// The targets that drop a packet, and that reset its connection.
pub(super) const DROP: &str = "-j DROP";
const RESET: &str = "-j REJECT --reject-with tcp-reset";

/// What becomes of packets from a source: for each answer what restricts it to a protocol, and the target.
pub(super) fn answers(reach: Reach, ipv4: bool) -> Vec<(&'static str, &'static str)> {
    match (reach.answer, ipv4) {
        (Answer::Drop, _) => vec![("", DROP)],
        (Answer::Reject, true) => {
            vec![(TCP_ONLY, RESET), ("", "-j REJECT --reject-with icmp-admin-prohibited")]
        }
        (Answer::Reject, false) => {
            vec![(TCP_ONLY, RESET), ("", "-j REJECT --reject-with icmp6-adm-prohibited")]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_rules_are_kept_before_all_but_those_of_the_other_backend() {
        let placed = |listed: &str| {
            let is_jump = |rule: &Rule| rule.target() == Some("PSENTRY");
            let wanted = ["-j PSENTRY".to_owned()];
            place(&Rules::read(listed), "INPUT", &wanted, is_jump).join("; ")
        };
        let insertion = "-I INPUT 1 -j PSENTRY";
        let set = "-A INPUT -m set --match-set psentry4 src -j DROP\n";
        assert_eq!(placed("-A FORWARD -j PSENTRY\n"), insertion);
        assert_eq!(placed("-A INPUT -j PSENTRY\n-A INPUT -j ACCEPT\n"), "");
        assert_eq!(placed(&format!("{set}-A INPUT -j PSENTRY\n")), "");
        let moved = format!("-D INPUT -j PSENTRY; {insertion}");
        assert_eq!(placed("-A INPUT -j DOCKER\n-A INPUT -j PSENTRY\n"), moved);
        assert_eq!(placed(&format!("{set}-A INPUT -j DOCKER\n-A INPUT -j PSENTRY\n")), moved);
        let twice = "-A INPUT -j PSENTRY\n-A INPUT -j PSENTRY\n";
        assert_eq!(placed(twice), format!("-D INPUT -j PSENTRY; {moved}"));
        // As psentry-block wrote it before, with a comment on what it had made.
        let noted = "INPUT -m comment --comment \"psentry made this table\" -j PSENTRY";
        assert_eq!(placed(&format!("-A {noted}\n")), format!("-D {noted}; {insertion}"));
    }
}
