//! Tables, chains, rules and elements as the kernel sends them.

use psentry_linux::netlink_attributes::put;

use super::*;

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
        attribute(NFTA_RULE_EXPRESSIONS, &list),
        attribute(NFTA_RULE_USERDATA, &says),
    ]
    .concat()
}

fn immediate(code: u32) -> (&'static [u8], Vec<u8>) {
    let verdict = attribute(NFTA_DATA_VERDICT, &attribute(NFTA_VERDICT_CODE, &code.to_be_bytes()));
    (b"immediate\0", attribute(NFTA_IMMEDIATE_DATA, &verdict))
}

#[test]
fn a_rule_says_where_it_looks_up_and_what_becomes_of_the_packet() {
    let reject = |kind: u8| (&b"reject\0"[..], attribute(NFTA_REJECT_TYPE, &[0, 0, 0, kind]));
    for (end, verdict) in [
        (immediate(NF_DROP), Some(Verdict::Drop)),
        (immediate(NF_ACCEPT), Some(Verdict::Accept)),
        (immediate(7), None),
        (reject(1), Some(Verdict::Reset)),
        (reject(2), Some(Verdict::Refuse)),
    ] {
        let payload = (&b"payload\0"[..], Vec::new());
        let lookup = (&b"lookup\0"[..], attribute(NFTA_LOOKUP_SET, b"v4_32\0"));
        let got = rule(&message(&[payload, lookup, end], "mine")).unwrap();
        let (chain, set) = ("prerouting".to_owned(), Some("v4_32".to_owned()));
        assert_eq!(got, Rule { chain, set, verdict, comment: Some("mine".to_owned()) });
    }
    assert_eq!(rule(&[1, 0, 0]), None);
}

#[test]
fn a_chain_says_its_hook_and_its_priority() {
    let at = |number: u8| {
        [
            attribute(NFTA_HOOK_HOOKNUM, &[0, 0, 0, number]),
            attribute(NFTA_HOOK_PRIORITY, &(-300i32).to_be_bytes()),
        ]
        .concat()
    };
    let chain = |table: &[u8], hook: &[u8]| {
        let parts = [
            vec![1, 0, 0, 0],
            attribute(NFTA_TABLE, table),
            attribute(NFTA_CHAIN_NAME, b"input\0"),
            hook.to_vec(),
        ];
        super::chain("psentry", &parts.concat())
    };
    let name = || "input".to_owned();
    let hooked = attribute(NFTA_CHAIN_HOOK, &at(1));
    assert_eq!(chain(b"psentry\0", &hooked), Some(Chain { name: name(), hook: Some((1, -300)) }));
    assert_eq!(chain(b"psentry\0", &[]), Some(Chain { name: name(), hook: None }));
    assert_eq!(chain(b"filter\0", &hooked), None);
}

#[test]
fn elements_are_read_with_what_is_left_of_their_time() {
    let element = |key: &[u8]| {
        [
            attribute(NFTA_SET_ELEM_KEY, &attribute(NFTA_DATA_VALUE, key)),
            attribute(NFTA_SET_ELEM_EXPIRATION, &599_400u64.to_be_bytes()),
            attribute(NFTA_SET_ELEM_USERDATA, &[0, 4, b'f', b'a', b'n', 0]),
        ]
        .concat()
    };
    let list: Vec<u8> = [[192, 0, 2, 7], [192, 0, 2, 8]]
        .iter()
        .flat_map(|key| attribute(NFTA_LIST_ELEM, &element(key)))
        .collect();
    let message = [vec![1, 0, 0, 0], attribute(NFTA_SET_ELEM_LIST_ELEMENTS, &list)].concat();
    let read: Vec<Element<'_>> = elements(&message).collect();
    let left = Some(Duration::from_millis(599_400));
    let want = Element { key: &[192, 0, 2, 7], left, comment: Some("fan".to_owned()) };
    assert_eq!(read, [want.clone(), Element { key: &[192, 0, 2, 8], ..want }]);
}

#[test]
fn a_broken_answer_holds_nothing() {
    for bytes in
        [&[][..], &[1, 0, 0, 0], &[1, 0, 0, 0, 200, 0, 3, 128], &[1, 0, 0, 0, 8, 0, 3, 128, 4, 0, 1, 128]]
    {
        assert_eq!(elements(bytes).count(), 0);
    }
}

#[test]
fn data_of_others_is_skipped() {
    assert_eq!(comment(&[7, 1, 0, 0, 2, b'a', 0]), Some("a".to_owned()));
    for broken in [&[0][..], &[0, 200, b'a'], &[]] {
        assert_eq!(comment(broken), None);
    }
}

#[test]
fn a_set_says_what_it_can_hold() {
    let message = |flags: u8| {
        [
            vec![1, 0, 0, 0],
            attribute(NFTA_SET, b"v4_32\0"),
            attribute(NFTA_SET_FLAGS, &[0, 0, 0, flags]),
            attribute(NFTA_SET_KEY_LEN, &[0, 0, 0, 4]),
            attribute(NFTA_SET_DESC, &attribute(NFTA_SET_DESC_SIZE, &[0, 0, 1, 0])),
        ]
        .concat()
    };
    let timed =
        Set { name: "v4_32".to_owned(), is_anonymous: false, is_timed: true, key_length: 4, size: Some(256) };
    assert_eq!(set(&message(0x10)), Some(timed.clone()));
    assert_eq!(set(&message(0x90)), Some(timed.clone()));
    // Constant and anonymous, with intervals, and a map.
    assert_eq!(set(&message(3)), Some(Set { is_anonymous: true, is_timed: false, ..timed.clone() }));
    for flags in [0x14, 0x18, 0] {
        assert_eq!(set(&message(flags)), Some(Set { is_timed: false, ..timed.clone() }));
    }
    assert_eq!(set(&[1, 0, 0, 0]), None);
}
