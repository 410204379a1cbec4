//! Blocks are written as rules and read back, whatever was there.

use super::*;
use crate::reach::Answer;

/// The blocks that rules are.
fn blocks_of(rules: &[String]) -> Vec<Block> {
    let rules = Rules::read(&rules.join("\n"), false);
    let rules = CHAINS.iter().flat_map(|chain| rules.chain(chain));
    rules.filter_map(entry).reduce(|a, b| a.joined(&b)).iter().map(Block::from).collect()
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
        (Reach::default(), &whole, vec![format!("-A PSENTRY -s 192.0.2.7/32 {note} -j DROP")]),
        (
            reject,
            &whole,
            vec![
                format!("-A PSENTRY -s 192.0.2.7/32 -p tcp {note} -j REJECT --reject-with tcp-reset"),
                format!("-A PSENTRY -s 192.0.2.7/32 {note} -j REJECT --reject-with icmp-admin-prohibited"),
            ],
        ),
        (
            reject,
            &some,
            ["1,2,3,4,5,6,7,8,9,10,11,12,13,14,15", "16"]
                .map(|ports| {
                    format!(
                        "-A PSENTRY -s 192.0.2.7/32 -p tcp -m multiport --dports {ports} {note} -j REJECT --reject-with \
                         tcp-reset"
                    )
                })
                .to_vec(),
        ),
    ] {
        let rules = rules_of(reach, scope, block);
        assert_eq!(rules, want);
        assert_eq!(blocks_of(&rules), std::slice::from_ref(block));
    }
    let network = "2001:db8::/48".parse().unwrap();
    let rules = rules_of(Reach::default(), network, &whole);
    let comment = "2001:db8::/48: fan until 2026-11-22T15:04:05Z";
    assert_eq!(rules, [format!("-A PSENTRY -s {network} -m comment --comment \"{comment}\" -j DROP")]);
    for comment in [comment, "fan until 2026-11-22T15:04:05Z"] {
        let rule = format!("-A PSENTRY -s {network} -m comment --comment \"{comment}\" -j DROP");
        assert_eq!(blocks_of(&[rule]), std::slice::from_ref(&whole));
    }
    let both = Reach { egress: true, ..reject };
    let rules = rules_of(both, scope, &whole);
    assert_eq!(rules[2..], [format!("-A PSENTRY -d 192.0.2.7/32 {note} -j DROP")]);
    assert_eq!(blocks_of(&rules), std::slice::from_ref(&whole));
    assert!(rules_of(both, scope, &some)[2].contains(" --sports 1,2,3,"));
    let unproven = Block { unproven: true, ..whole.clone() };
    let rules = rules_of(Reach::default(), scope, &unproven);
    let comment = "fan (unproven) until 2026-11-22T15:04:05Z";
    assert_eq!(
        rules,
        [format!("-A PSENTRY-UNPROVEN -s 192.0.2.7/32 -m comment --comment \"{comment}\" -j DROP")]
    );
    assert_eq!(blocks_of(&rules), [unproven]);
}

const SCOPE: &str = "192.0.2.7";

fn put(block: &Block) -> Op {
    Op::Put { scope: SCOPE.parse().unwrap(), block: block.clone(), was: None }
}

fn blocks() -> Vec<Block> {
    let until = "2026-11-22T15:04:05Z".parse().ok();
    let whole = Block { until, rule: Some("fan".to_owned()), ..Block::default() };
    let unproven = Block { unproven: true, ..whole.clone() };
    let ports = Block { ports: (1..=16).collect(), ..whole.clone() };
    vec![whole, unproven, Block { unproven: true, ..ports.clone() }, ports]
}

#[test]
fn whatever_was_there_only_the_block_is_there_afterwards() {
    let reject = Reach { answer: Answer::Reject, egress: true, ..Reach::default() };
    for reach in [Reach::default(), reject] {
        for (first, second) in blocks().iter().flat_map(|a| blocks().into_iter().map(move |b| (a.clone(), b)))
        {
            let mut rules = Rules::default();
            rules.run(&commands(reach, &rules, &[&put(&first)]));
            rules.run(&commands(reach, &rules, &[&put(&second)]));
            let found = entries(reach, &rules);
            assert_eq!(found, [second.entry(SCOPE.parse().unwrap())], "{first:?}");
            assert!(commands(reach, &rules, &[&put(&second)]).is_empty());
            let scope = SCOPE.parse().unwrap();
            rules.run(&commands(reach, &rules, &[&Op::Delete { scope, was: second }]));
            assert!(by_scope(&rules).is_empty());
        }
    }
}

#[test]
fn what_is_half_there_or_made_by_other_flags_is_damaged() {
    let reject = Reach { answer: Answer::Reject, ..Reach::default() };
    let mut rules = Rules::default();
    rules.run(&commands(reject, &rules, &[&put(&blocks()[0])]));
    let damaged = |reach, rules: &Rules| entries(reach, rules)[0].damaged;
    assert!(!damaged(reject, &rules) && damaged(Reach::default(), &rules));
    let first = rules.chain("PSENTRY").next().unwrap().deletion();
    rules.run(&[first]);
    assert!(damaged(reject, &rules));
    // What somebody else put there.
    let other = Rules::read("-A PSENTRY -s 192.0.2.8/32 -j ACCEPT\n", false);
    let entry = &entries(reject, &other)[0];
    assert!(entry.damaged && entry.scope == "192.0.2.8".parse().unwrap());
}
