//! The places of our rules in builtin chains, such as INPUT, and the answers that they give.

use super::rules::{Rule, Rules};
use super::{Filter, ground};
use crate::error::Error;
use crate::reach::{Answer, Reach};

impl Filter {
    /// The commands that make `wanted` all that is ours in a builtin chain, at its top. What stands anywhere in it, in
    /// this order, stays: the place that an administrator gave it counts.
    pub(super) fn place(
        &self,
        rules: &Rules,
        chain: &str,
        wanted: &[String],
        ours: impl Fn(&Rule) -> bool,
    ) -> Result<Vec<String>, Error> {
        let standing: Vec<&Rule> = rules.chain(chain).filter(|rule| ours(rule)).collect();
        let as_wanted = |(rule, wanted): (&&Rule, &String)| rule.is(wanted);
        if standing.len() == wanted.len() && standing.iter().zip(wanted).all(as_wanted) {
            return Ok(Vec::new());
        }
        // Another backend of ours may have made what this one finds; whoever goes last takes it away.
        let mark = match rules.chain(chain).find_map(|rule| ground::mark_of(rule.comment()?)) {
            None if !wanted.is_empty() => ground::survey(self, chain)?,
            mark => mark,
        };
        let comment = mark.map_or_else(String::new, |mark| format!("-m comment --comment \"{mark}\" "));
        let mut commands: Vec<String> = standing.into_iter().map(Rule::deletion).collect();
        let places = wanted.iter().zip(1..);
        commands.extend(places.map(|(rule, place)| format!("-I {chain} {place} {}", marked(rule, &comment))));
        Ok(commands)
    }

    /// After our rules are gone from builtin chains: takes away the chains, and the table, that came with them.
    pub(super) fn restore_ground<'a>(
        &self,
        gone: impl Iterator<Item = (&'a str, &'a Rule)>,
    ) -> Result<(), Error> {
        let mark = |(chain, rule): (&'a str, &'a Rule)| Some((ground::mark_of(rule.comment()?)?, chain));
        let mut marks: Vec<(&str, &str)> = gone.filter_map(mark).collect();
        // Chains first, for a table goes only when it is empty.
        marks.sort_unstable_by_key(|(mark, chain)| (*mark == ground::TABLE, *chain));
        marks.dedup();
        marks.into_iter().try_for_each(|(mark, chain)| ground::clear(self, chain, mark))
    }
}

/// What is to be done about our rules in builtin chains.
#[derive(Default)]
pub(super) struct Placing<'a> {
    /// In the words of iptables.
    pub(super) commands: Vec<String>,
    /// The rules that go for good with it, each with its chain.
    pub(super) gone: Vec<(&'static str, &'a Rule)>,
}

/// The builtin chains that rules of ours may stand in: also those of other flags are found, and taken away.
pub(super) const BUILTIN: [&str; 3] = ["INPUT", "FORWARD", "OUTPUT"];

/// A rule with a comment more. The protocol comes first, as in what is listed.
fn marked(rule: &str, comment: &str) -> String {
    let split = |only: &'static str| Some((only, rule.strip_prefix(only)?));
    let (only, rest) = [TCP_ONLY, NOT_TCP].into_iter().find_map(split).unwrap_or(("", rule));
    format!("{only}{comment}{rest}")
}

/// What makes a rule one for TCP, or for all else.
pub(super) const TCP_ONLY: &str = "-p tcp ";
pub(super) const NOT_TCP: &str = "! -p tcp ";

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

/// The targets that drop a packet, and that reset its connection.
pub(super) const DROP: &str = "-j DROP";
const RESET: &str = "-j REJECT --reject-with tcp-reset";
