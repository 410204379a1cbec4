//! What is a decision and what is damage, on messages as the kernel sends them.

use super::super::elements;
use super::super::elements::tests::{at, bytes};
use super::super::sets::Key;
use psentry_records::Timestamp;

use super::changes::*;
use super::*;
use crate::backend::Block;

const OWN: u32 = 7;
const NFT: u32 = 4711;
/// Another process of psentry.
const OTHER: u32 = 0x5053_0001;

/// A chain, a rule, a set.
const DELETE_CHAIN: u16 = 5;
const DELETE_RULE: u16 = 8;
const DELETE_SET: u16 = 11;

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 4).unwrap();
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A message about our table.
fn about(table: &str) -> Vec<u8> {
    [vec![INET, 0, 0, 0], attribute(ITS_TABLE, format!("{table}\0").as_bytes())].concat()
}

fn gone(scopes: &[&str]) -> Vec<u8> {
    let keys: Vec<Key> = scopes.iter().map(|scope| (scope.parse().unwrap(), None)).collect();
    bytes(elements::delete(SetId::all(keys[0].0)[0], &keys))
}

/// Blocks until a moment that is far away.
fn put(scopes: &[&str]) -> Vec<u8> {
    let block = Block { until: Some(at("2080-01-01T00:00:00Z")), ..Block::default() };
    let blocks: Vec<(Key, &Block)> =
        scopes.iter().map(|scope| ((scope.parse().unwrap(), None), &block)).collect();
    bytes(elements::add(SetId::all(blocks[0].0.0)[0], &blocks, Timestamp::now()))
}

fn tell(news: &mut News, port: u32, kind: u16, message: &[u8]) {
    let mut header = NetlinkHeader::default();
    header.message_type = SUBSYSTEM << 8 | kind;
    header.port_number = port;
    news.hear(OWN, &header, message);
}

fn commit(news: &mut News, port: u32) {
    let message =
        [vec![0, 0, 0, 0], attribute(PROCESS, &9u32.to_be_bytes()), attribute(PROCESS_NAME, b"nft\0")]
            .concat();
    tell(news, port, NEW_GENERATION, &message);
}

/// What one transaction of `port` comes to; `stays`: other elements stay in the set.
fn one(port: u32, told: &[(u16, Vec<u8>)], stays: bool) -> Noticed {
    let mut news = News::default();
    for (kind, message) in told {
        tell(&mut news, port, *kind, message);
    }
    assert_eq!(news.take(|_, _| stays), Noticed::default(), "a transaction counts when it is over");
    commit(&mut news, port);
    news.take(|_, _| stays)
}

fn let_in(scopes: &[&str], who: &str) -> Noticed {
    let let_in = scopes.iter().map(|scope| (scope.parse().unwrap(), who.to_owned())).collect();
    Noticed { let_in, ..Noticed::default() }
}

fn cleared(who: &str, since: &[&str]) -> Noticed {
    let since = since.iter().map(|scope| scope.parse().unwrap()).collect();
    Noticed { cleared: Some(Cleared { who: who.to_owned(), since }), ..Noticed::default() }
}

fn damaged() -> Noticed {
    Noticed { damaged: Some("'nft' (process 9)".to_owned()), ..Noticed::default() }
}

#[test]
fn our_own_changes_and_other_tables_are_nothing() {
    for kind in [DELETE_TABLE, DELETE_CHAIN, DELETE_RULE, DELETE_SET, NEW_ELEMENTS, 99] {
        assert_eq!(one(OWN, &[(kind, about("psentry"))], false), Noticed::default());
        assert_eq!(one(NFT, &[(kind, about("filter"))], false), Noticed::default());
        let mut ipv4 = about("psentry");
        ipv4[0] = 2;
        assert_eq!(one(NFT, &[(kind, ipv4)], false), Noticed::default());
        assert_eq!(one(NFT, &[(kind, about("psentry"))], true), damaged());
    }
    for kind in [NEW_TABLE, NEW_CHAIN, NEW_RULE, NEW_SET] {
        assert_eq!(one(NFT, &[(kind, about("psentry"))], false), Noticed::default(), "nothing is gone");
    }
    let asleep = [about("psentry"), attribute(2, &[0, 0, 0, 1])].concat();
    assert_eq!(one(NFT, &[(NEW_TABLE, asleep)], false), damaged());
}

#[test]
fn who_names_elements_lets_them_in_and_who_takes_all_does_damage() {
    let (nft, both) = ("'nft' (process 9)", ["192.0.2.7", "192.0.2.8"]);
    let told = |scopes: &[&str]| [(DELETE_ELEMENTS, gone(scopes))];
    assert_eq!(one(NFT, &told(&both[..1]), false), let_in(&both[..1], nft));
    assert_eq!(one(NFT, &told(&both), true), let_in(&both, nft));
    assert_eq!(one(NFT, &told(&both), false), damaged());
    // As a flush is told: an element a message.
    let apart = [(DELETE_ELEMENTS, gone(&both[..1])), (DELETE_ELEMENTS, gone(&both[1..]))];
    assert_eq!(one(NFT, &apart, false), damaged());
    let with_rule = [(DELETE_ELEMENTS, gone(&both[..1])), (DELETE_RULE, about("psentry"))];
    assert_eq!(one(NFT, &with_rule, true), damaged());
}

#[test]
fn what_another_psentry_block_does_is_a_decision() {
    let who = "'psentry-block' (process 9)";
    let told = [(DELETE_ELEMENTS, gone(&["192.0.2.7"])), (DELETE_ELEMENTS, gone(&["192.0.2.8"]))];
    assert_eq!(one(OTHER, &told, false), let_in(&["192.0.2.7", "192.0.2.8"], who));
    let flush = [(DELETE_RULE, about("psentry")), (DELETE_TABLE, about("psentry"))];
    assert_eq!(one(OTHER, &flush, false), cleared(who, &[]));
}

#[test]
fn what_we_put_into_a_set_after_a_flush_did_not_stay_in_it() {
    let mut news = News::default();
    let both = gone(&["192.0.2.7", "192.0.2.8"]);
    let mut since = Vec::new();
    tell(&mut news, OWN, NEW_ELEMENTS, &put(&["192.0.2.1"]));
    tell(&mut news, NFT, DELETE_ELEMENTS, &both);
    commit(&mut news, NFT);
    tell(&mut news, OWN, NEW_ELEMENTS, &put(&["192.0.2.7", "192.0.2.9"]));
    tell(&mut news, OWN, NEW_ELEMENTS, &put(&["2001:db8::/64"]));
    let noticed = news.take(|_, beside| {
        since.extend(beside.iter().map(Prefix::to_string));
        false
    });
    assert_eq!(noticed, damaged());
    assert_eq!(since, ["192.0.2.7/32", "192.0.2.9/32"]);
}

#[test]
fn who_swaps_one_element_for_another_lets_the_one_in() {
    let told = [(DELETE_ELEMENTS, gone(&["192.0.2.7"])), (NEW_ELEMENTS, put(&["192.0.2.99"]))];
    let who = "'nft' (process 9)";
    let look = Noticed { damaged: Some(who.to_owned()), ..let_in(&["192.0.2.7"], who) };
    assert_eq!(one(NFT, &told, false), look);
    // Several of them may be the load of a saved set.
    let told = [(DELETE_ELEMENTS, gone(&["192.0.2.7", "192.0.2.8"])), (NEW_ELEMENTS, put(&["192.0.2.7"]))];
    assert_eq!(one(NFT, &told, true), damaged());
}

#[test]
fn what_another_psentry_block_adds_is_a_decision_and_no_damage() {
    let bare = bytes(elements::add_bare(SetId::FIRST[0], &[("192.0.2.7".parse().unwrap(), None)]));
    let told =
        [(NEW_ELEMENTS, bare), (DELETE_ELEMENTS, gone(&["192.0.2.7"])), (NEW_ELEMENTS, put(&["192.0.2.7"]))];
    let noticed = one(OTHER, &told, true);
    let scopes: Vec<String> = noticed.decided.keys().map(Prefix::to_string).collect();
    assert_eq!((scopes, noticed.damaged), (vec!["192.0.2.7/32".to_owned()], None));
    assert!(noticed.let_in.is_empty(), "it was only put in place anew");
    let added_and_gone = [(NEW_ELEMENTS, put(&["192.0.2.7"])), (DELETE_ELEMENTS, gone(&["192.0.2.7"]))];
    assert!(one(OTHER, &added_and_gone, true).decided.is_empty());
    assert!(one(NFT, &told, true).decided.is_empty());
}

#[test]
fn when_psentry_block_took_all_away_nothing_that_went_before_is_damage() {
    let mut news = News::default();
    tell(&mut news, NFT, DELETE_RULE, &about("psentry"));
    commit(&mut news, NFT);
    tell(&mut news, NFT, DELETE_ELEMENTS, &gone(&["192.0.2.7", "192.0.2.8"]));
    commit(&mut news, NFT);
    tell(&mut news, OTHER, DELETE_TABLE, &about("psentry"));
    commit(&mut news, OTHER);
    tell(&mut news, OWN, NEW_ELEMENTS, &put(&["192.0.2.9"]));
    let who = "'psentry-block' (process 9)";
    assert_eq!(news.take(|_, _| false), cleared(who, &["192.0.2.9"]));
    // What goes afterwards is.
    tell(&mut news, OTHER, DELETE_TABLE, &about("psentry"));
    commit(&mut news, OTHER);
    tell(&mut news, NFT, DELETE_RULE, &about("psentry"));
    commit(&mut news, NFT);
    assert_eq!(news.take(|_, _| false), Noticed { damaged: damaged().damaged, ..cleared(who, &[]) });
}

#[test]
fn what_is_lost_is_damage_and_so_is_the_rest_of_a_transaction() {
    let mut news = News::default();
    let end = gone(&["192.0.2.7"]);
    tell(&mut news, NFT, DELETE_ELEMENTS, &end);
    news.lost();
    assert_eq!(news.take(|_, _| true), Noticed { damaged: Some(SOMEBODY.to_owned()), ..Noticed::default() });
    tell(&mut news, NFT, DELETE_ELEMENTS, &end);
    commit(&mut news, NFT);
    // Whoever made it need not be who did what was not told.
    assert_eq!(news.take(|_, _| true), Noticed { damaged: Some(SOMEBODY.to_owned()), ..Noticed::default() });
    tell(&mut news, NFT, DELETE_ELEMENTS, &end);
    commit(&mut news, NFT);
    assert_eq!(news.take(|_, _| true), let_in(&["192.0.2.7"], "'nft' (process 9)"));
}

#[test]
fn a_process_cannot_smuggle_anything_in_with_its_name() {
    let message = [
        vec![0, 0, 0, 0],
        attribute(PROCESS, &9u32.to_be_bytes()),
        attribute(PROCESS_NAME, b"a\x1b[0m \xff\n\0"),
    ]
    .concat();
    assert_eq!(author(&message, false), "'a?[0m???' (process 9)");
    for broken in [&[][..], &[1, 0], &[0, 0, 0, 0, 200, 0, 2, 0]] {
        assert_eq!(author(broken, false), SOMEBODY);
    }
}
