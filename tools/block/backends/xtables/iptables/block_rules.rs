//! Blocks as the rules of iptables that they are, in the words in which `iptables -S` lists them. Reads and writes text,
//! runs nothing.

use psentry_records::{Prefix, Proto};

use super::super::jump_rules::{DROP, answers};
use super::super::rule_text::Rule;
use super::chains::{is_egress, is_unproven};
use crate::block::{Block, Entry};
use crate::note::{self, Noted};
use crate::reach::Reach;

/// The transports that have ports: the names, and the numbers of IANA.
const TRANSPORTS: [(&str, u8, Proto); 2] = [("tcp", 6, Proto::Tcp), ("udp", 17, Proto::Udp)];

/// How many ports a rule takes.
const PORTS: usize = 15;

/// The rules that a block is in one of our chains, as `iptables -S` writes them.
pub(super) fn rules_of(reach: Reach, chain: &str, scope: Prefix, block: &Block) -> Vec<String> {
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
pub(super) fn entry(chain: &str, rule: &Rule) -> Option<Entry> {
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

#[cfg(test)]
mod tests {
    use super::super::super::rule_text::Rules;
    use super::super::chains::{IN, IN_UNPROVEN, OUT};
    use super::*;
    use crate::reach::Answer;

    /// The blocks that rules of the chain for what comes from a source are.
    fn blocks(chain: &str, rules: &[String]) -> Vec<Block> {
        let listed: String = rules.iter().map(|rule| format!("-A {chain} {rule}\n")).collect();
        let rules = Rules::read(&listed);
        let entries = Entry::gather(rules.chain(chain).filter_map(|rule| entry(chain, rule)));
        entries.iter().map(Block::from).collect()
    }

    #[test]
    fn a_block_is_written_as_iptables_lists_it_and_read_back() {
        let until = "2026-11-22T15:04:05Z".parse().ok();
        let (scope, rule) = ("192.0.2.7".parse().unwrap(), Some("fan".to_owned()));
        let whole = Block { until, rule, ..Block::default() };
        let some = Block { ports: (1..=16).collect(), proto: Some(Proto::Tcp), ..whole.clone() };
        let note = "-m comment --comment \"fan until 2026-11-22T15:04:05Z\"";
        let reject = Reach { answer: Answer::Reject, ..Reach::default() };
        for (reach, block, want) in [
            (Reach::default(), &whole, vec![format!("-s 192.0.2.7/32 {note} -j DROP")]),
            (
                reject,
                &whole,
                vec![
                    format!("-s 192.0.2.7/32 -p tcp {note} -j REJECT --reject-with tcp-reset"),
                    format!("-s 192.0.2.7/32 {note} -j REJECT --reject-with icmp-admin-prohibited"),
                ],
            ),
            (
                reject,
                &some,
                ["1,2,3,4,5,6,7,8,9,10,11,12,13,14,15", "16"]
                    .map(|ports| {
                        format!(
                            "-s 192.0.2.7/32 -p tcp -m multiport --dports {ports} {note} -j REJECT --reject-with \
                             tcp-reset"
                        )
                    })
                    .to_vec(),
            ),
        ] {
            let rules = rules_of(reach, IN, scope, block);
            assert_eq!(rules, want);
            assert_eq!(blocks(IN, &rules), std::slice::from_ref(block));
        }
        let network = "2001:db8::/48".parse().unwrap();
        let rules = rules_of(Reach::default(), IN, network, &whole);
        let comment = "2001:db8::/48: fan until 2026-11-22T15:04:05Z";
        assert_eq!(rules, [format!("-s {network} -m comment --comment \"{comment}\" -j DROP")]);
        for comment in [comment, "fan until 2026-11-22T15:04:05Z"] {
            let rule = format!("-s {network} -m comment --comment \"{comment}\" -j DROP");
            assert_eq!(blocks(IN, &[rule]), std::slice::from_ref(&whole));
        }
        let egress = Reach { egress: true, ..Reach::default() };
        assert_eq!(rules_of(egress, OUT, scope, &whole), [format!("-d 192.0.2.7/32 {note} -j DROP")]);
        assert!(rules_of(reject, OUT, scope, &whole).is_empty());
        let unproven = Block { unproven: true, ..whole.clone() };
        assert!(rules_of(egress, IN, scope, &unproven).is_empty());
        assert!(rules_of(egress, IN_UNPROVEN, scope, &whole).is_empty());
        let rules = rules_of(egress, IN_UNPROVEN, scope, &unproven);
        let comment = "fan (unproven) until 2026-11-22T15:04:05Z";
        assert_eq!(rules, [format!("-s 192.0.2.7/32 -m comment --comment \"{comment}\" -j DROP")]);
        assert_eq!(blocks(IN_UNPROVEN, &rules), [unproven]);
    }
}
