//! Rules, chains and tables as the kernel tells of them.

use super::super::super::attributes::put;
use super::super::layout::Hook;
use super::*;

fn chain_at(hook: Hook) -> Chain {
    Chain { hook, tracked: false }
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put(&mut bytes, kind, value);
    bytes
}

#[test]
fn a_table_that_sleeps_is_known_by_its_flag() {
    for (flags, dormant) in [([0, 0, 0, 1], true), ([0, 0, 0, 3], true), ([0, 0, 0, 2], false)] {
        let message = [&[1, 0, 0, 0][..], &attribute(1, b"psentry\0"), &attribute(TABLE_FLAGS, &flags)];
        assert_eq!(is_dormant(&message.concat()), dormant, "{flags:?}");
    }
    assert!(!is_dormant(&[1, 0, 0, 0, 6, 0, 2, 0, 1]));
}

fn message(expressions: &[(&[u8], Vec<u8>)], says: &str) -> Vec<u8> {
    let expression = |(name, data): &(&[u8], Vec<u8>)| {
        attribute(1, &[attribute(EXPRESSION_NAME, name), attribute(EXPRESSION_DATA, data)].concat())
    };
    let list: Vec<u8> = expressions.iter().flat_map(expression).collect();
    let says = [&[0, u8::try_from(says.len()).unwrap()][..], says.as_bytes()].concat();
    [
        vec![1, 0, 0, 0],
        attribute(RULE_CHAIN, b"prerouting\0"),
        attribute(RULE_HANDLE, &[0, 0, 0, 0, 0, 0, 1, 2]),
        attribute(EXPRESSIONS, &list),
        attribute(RULE_USERDATA, &says),
    ]
    .concat()
}

fn lookup(set: &[u8]) -> (&'static [u8], Vec<u8>) {
    (b"lookup\0", attribute(LOOKUP_SET, set))
}

fn verdict(code: [u8; 4]) -> (&'static [u8], Vec<u8>) {
    (b"immediate\0", attribute(IMMEDIATE_DATA, &attribute(DATA_VERDICT, &attribute(VERDICT_CODE, &code))))
}

#[test]
fn a_rule_is_known_by_its_set_and_what_becomes_of_it() {
    let reject = |kind: u8| (&b"reject\0"[..], attribute(REJECT_TYPE, &[0, 0, 0, kind]));
    let payload = || (&b"payload\0"[..], Vec::new());
    let set = SetId::FIRST[0];
    for (end, says, want) in [
        (verdict(DROP), "", Some(Does::Drop(set))),
        (verdict(ACCEPT), "", None),
        (verdict(ACCEPT), SPARED, None),
        (verdict(GOTO), "", None),
        (verdict(RETURN), "", None),
        (reject(1), "", Some(Does::Reset(set))),
        (reject(2), "", Some(Does::Refuse(set))),
    ] {
        let passes = [ACCEPT, GOTO, RETURN].map(verdict).contains(&end);
        let message = message(&[payload(), lookup(b"v4_32\0"), end], says);
        assert_eq!(lets_pass(&message), passes);
        assert_eq!(rule(&message), want.map(|does| (Rule { chain: chain_at(Hook::Prerouting), does }, 258)));
    }
    assert_eq!(rule(&message(&[lookup(b"mine\0"), verdict(DROP)], "")), None);
    assert_eq!(rule(&[1, 0, 0]), None);
    assert_eq!(generation(&[&[0, 0, 0, 0][..], &attribute(1, &[0, 0, 1, 2])].concat()), Some(258));
}

/// Whoever lets some packets through by a rule of his own keeps it.
#[test]
fn a_rule_that_lets_through_is_ours_by_its_comment() {
    let ct = || (&b"ct\0"[..], Vec::new());
    let does = |says: &str| rule(&message(&[ct(), verdict(ACCEPT)], says)).map(|(rule, _)| rule.does);
    assert_eq!(does(SPARED), Some(Does::Spare));
    assert_eq!(does(SPARED_TCP), Some(Does::SpareTcp));
    assert_eq!(does("my monitoring"), None);
}

#[test]
fn a_chain_is_right_at_the_hook_that_it_is_named_after() {
    let told = |table: &[u8], name: &[u8], number: u8| {
        let at =
            [attribute(HOOK_NUMBER, &[0, 0, 0, number]), attribute(HOOK_PRIORITY, &(-300i32).to_be_bytes())];
        let parts = [
            vec![1, 0, 0, 0],
            attribute(CHAIN_TABLE, table),
            attribute(CHAIN_NAME, name),
            attribute(CHAIN_HOOK, &at.concat()),
        ];
        chain(&parts.concat())
    };
    assert_eq!(told(b"psentry\0", b"input\0", 1), Some((chain_at(Hook::Input), Some(-300))));
    assert_eq!(told(b"psentry\0", b"input\0", 2), Some((chain_at(Hook::Input), None)));
    assert_eq!(told(b"filter\0", b"input\0", 1), None);
    assert_eq!(told(b"psentry\0", b"mine\0", 1), None);
}
