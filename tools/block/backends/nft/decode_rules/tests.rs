//! Rules, chains and tables as the kernel sends them.

use psentry_linux::netlink_attributes::put;

use super::super::ruleset_plan::Hook;
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
fn a_dormant_table_is_recognised_by_its_flag() {
    for (flags, dormant) in [([0, 0, 0, 1], true), ([0, 0, 0, 3], true), ([0, 0, 0, 2], false)] {
        let message = [&[1, 0, 0, 0][..], &attribute(1, b"psentry\0"), &attribute(NFTA_TABLE_FLAGS, &flags)];
        assert_eq!(is_dormant(&message.concat()), dormant, "{flags:?}");
    }
    assert!(!is_dormant(&[1, 0, 0, 0, 6, 0, 2, 0, 1]));
}

fn message(expressions: &[(&[u8], Vec<u8>)], says: &str) -> Vec<u8> {
    let expression = |(name, data): &(&[u8], Vec<u8>)| {
        attribute(1, &[attribute(NFTA_EXPR_NAME, name), attribute(NFTA_EXPR_DATA, data)].concat())
    };
    let list: Vec<u8> = expressions.iter().flat_map(expression).collect();
    let says = [&[0, u8::try_from(says.len()).unwrap()][..], says.as_bytes()].concat();
    [
        vec![1, 0, 0, 0],
        attribute(NFTA_RULE_CHAIN, b"prerouting\0"),
        attribute(NFTA_RULE_HANDLE, &[0, 0, 0, 0, 0, 0, 1, 2]),
        attribute(NFTA_RULE_EXPRESSIONS, &list),
        attribute(NFTA_RULE_USERDATA, &says),
    ]
    .concat()
}

fn lookup(set: &[u8]) -> (&'static [u8], Vec<u8>) {
    (b"lookup\0", attribute(NFTA_LOOKUP_SET, set))
}

fn verdict(code: u32) -> (&'static [u8], Vec<u8>) {
    (
        b"immediate\0",
        attribute(
            NFTA_IMMEDIATE_DATA,
            &attribute(NFTA_DATA_VERDICT, &attribute(NFTA_VERDICT_CODE, &code.to_be_bytes())),
        ),
    )
}

#[test]
fn a_rule_is_recognised_by_its_set_and_what_becomes_of_it() {
    let reject = |kind: u8| (&b"reject\0"[..], attribute(NFTA_REJECT_TYPE, &[0, 0, 0, kind]));
    let payload = || (&b"payload\0"[..], Vec::new());
    let set = SetId::FIRST[0];
    for (end, says, want) in [
        (verdict(NF_DROP), "", Some(Action::Drop(set))),
        (verdict(NF_ACCEPT), "", None),
        (verdict(NF_ACCEPT), SPARE, None),
        (reject(1), "", Some(Action::Reset(set))),
        (reject(2), "", Some(Action::Refuse(set))),
    ] {
        let message = message(&[payload(), lookup(b"v4_32\0"), end], says);
        let want = FoundRule { chain: chain_at(Hook::Prerouting), handle: 258, action: want };
        assert_eq!(rule(&message), Some(want));
    }
    let others = rule(&message(&[lookup(b"mine\0"), verdict(NF_DROP)], "")).unwrap();
    assert_eq!(others.action, None);
    assert_eq!(rule(&[1, 0, 0]), None);
}

/// One of an administrator that accepts some packets is not.
#[test]
fn a_rule_that_accepts_is_ours_by_its_comment() {
    let ct = || (&b"ct\0"[..], Vec::new());
    let action = |says: &str| rule(&message(&[ct(), verdict(NF_ACCEPT)], says)).unwrap().action;
    assert_eq!(action(SPARE), Some(Action::Spare));
    assert_eq!(action(SPARE_TCP), Some(Action::SpareTcp));
    assert_eq!(action("my monitoring"), None);
}

#[test]
fn a_chain_is_right_at_the_hook_that_it_is_named_after() {
    let decoded = |table: &[u8], name: &[u8], number: u8| {
        let at = [
            attribute(NFTA_HOOK_HOOKNUM, &[0, 0, 0, number]),
            attribute(NFTA_HOOK_PRIORITY, &(-300i32).to_be_bytes()),
        ];
        let parts = [
            vec![1, 0, 0, 0],
            attribute(NFTA_TABLE, table),
            attribute(NFTA_CHAIN_NAME, name),
            attribute(NFTA_CHAIN_HOOK, &at.concat()),
        ];
        chain(&parts.concat())
    };
    assert_eq!(decoded(b"psentry\0", b"input\0", 1), Some((chain_at(Hook::Input), true)));
    assert_eq!(decoded(b"psentry\0", b"input\0", 2), Some((chain_at(Hook::Input), false)));
    assert_eq!(decoded(b"filter\0", b"input\0", 1), None);
    assert_eq!(decoded(b"psentry\0", b"mine\0", 1), None);
}
