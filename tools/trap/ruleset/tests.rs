//! The text of the rules, whole, as an administrator reads it.

use std::time::Duration;

use clap::Parser;
use psentry_ports::PortTable;

use super::*;
use crate::Flags;
use crate::sockets::Listening;

fn facts() -> HostFacts {
    let listening = Listening { tcp: [22, 80].into(), udp: [53].into() };
    HostFacts {
        own: ["127.0.0.1", "192.0.2.7", "::1", "2001:db8:1::7"].map(|addr| addr.parse().unwrap()).into(),
        infrastructure: ["192.0.2.1", "2001:db8::53", "192.0.2.53"]
            .iter()
            .map(|addr| addr.parse().unwrap())
            .collect(),
        near: ["192.0.2.0/24", "172.17.0.0/16", "2001:db8:1::/64"].map(|net| net.parse().unwrap()).into(),
        inside: ["172.17.0.0/16".parse().unwrap()].into(),
        client_ports: (32768, 60999),
        listening,
        served: Listening::default(),
        hidden: Ranges::default(),
        vouched: crate::source_file::Sources::new(),
        ports: PortTable::builtin(),
        allow: Vec::new(),
    }
}

fn settings(flags: &[&str]) -> Settings {
    Settings::from_flags(Flags::parse_from([&["psentry-trap"], flags].concat())).unwrap()
}

fn text(flags: &[&str]) -> String {
    full(&settings(flags), &facts(), Duration::ZERO)
}

/// Compares with a file of this folder; with PSENTRY_GOLDEN=write in the environment, writes it.
fn golden(name: &str, text: &str) {
    let path = format!("{}/ruleset/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("PSENTRY_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "{name}: PSENTRY_GOLDEN=write writes it anew");
}

#[test]
fn the_default_rules_are_these() {
    golden("default.nft", &text(&[]));
}

#[test]
fn the_rules_with_every_flag_are_these() {
    let flags = "--quarantine 2m --answer reject --tcp-ports 1-1023,3389 --udp-ports 1-1023 --except 22 --interface eth0 --interface wg0 --served 1h --icmp --protocols \
                 --veil 443,8000-8010 --familiar 7d --hide 22,5432 --mirage 7777 --group 9 --rate 100 --source-rate 3";
    golden("everything.nft", &text(&flags.split_whitespace().collect::<Vec<_>>()));
}

#[test]
fn the_rules_that_only_observe_are_these() {
    golden("observe.nft", &text(&["--observe"]));
}

/// What is not there is neither noticed when others change it nor made anew.
#[test]
fn every_set_that_is_filled_belongs_to_the_rules() {
    let filled = TEMPLATE.lines().filter_map(|line| line.rsplit_once(" $")?.1.strip_suffix('}'));
    // Where a value is no list of elements, a semicolon or a word comes after it.
    let filled: BTreeSet<&str> = filled.filter(|name| !name.contains(' ')).collect();
    assert_eq!(filled_sets(&facts()), filled);
}

/// Whoever adds a set says whether a panic empties it.
#[test]
fn a_release_forgets_all_but_what_is_served_and_how_much_is_logged() {
    let kept = ["served4", "served6", "decoys", "log_limit4", "log_limit6"];
    let dynamic = TEMPLATE.lines().filter(|line| line.contains("flags dynamic"));
    let dynamic = dynamic.filter_map(|line| line.trim().strip_prefix("set ")?.split(' ').next());
    let wanted: BTreeSet<&str> = dynamic.filter(|name| !kept.contains(name)).collect();
    assert_eq!(wanted, SOURCE_SETS.into());
}

#[test]
fn grace_ends_by_itself() {
    let text = full(&settings(&[]), &facts(), Duration::from_millis(93_200));
    assert!(text.contains(
        "set grace { type inet_proto; flags timeout; elements = { tcp timeout 94s, udp timeout 94s } }"
    ));
}

#[test]
fn nothing_is_left_to_fill_in() {
    for flags in [
        &[][..],
        &["--observe"],
        &["--observe", "--mirage", "1"],
        &["--icmp", "--answer", "reject"],
        &["--after-firewall"],
        &["--veil", "22", "--veil-own"],
        &["--observe", "--veil", "22"],
        &["--hide", "22"],
        &["--hide", "22", "--mirage", "1", "--observe"],
    ] {
        let text = text(flags);
        assert!(!text.contains('$') && !text.contains('?'), "{text}");
    }
}

#[test]
fn a_change_is_only_what_changed() {
    let (from, mut to) = (facts(), facts());
    assert_eq!(update(&settings(&[]), &from, &to), "");
    to.infrastructure.remove(&"2001:db8::53".parse().unwrap());
    to.listening.tcp.insert(443);
    to.client_ports = (20_000, 30_000);
    assert_eq!(
        update(&settings(&[]), &from, &to),
        "flush set inet psentry_trap own48\n\
         add element inet psentry_trap own48 { 2001:db8:1::/48, 64:ff9b::/48, fe80::/10 }\n\
         flush set inet psentry_trap infrastructure6\nflush set inet psentry_trap served_ports\n\
         add element inet psentry_trap served_ports { tcp . 22, tcp . 443, tcp . 80, udp . 53 }\n\
         flush set inet psentry_trap siblings\n\
         add element inet psentry_trap siblings { tcp . 53, tcp . 853, udp . 443, udp . 853 }\n\
         flush set inet psentry_trap client_ports\nadd element inet psentry_trap client_ports { 20000-30000 }\n"
    );
}

/// By its /64 another address of the same client is vouched for, too, as long as the longest of its vouches.
#[test]
fn who_is_vouched_for_has_an_end() {
    let now: Timestamp = "2026-12-22T15:04:05Z".parse().unwrap();
    let after = |millis| now.plus(Duration::from_millis(millis));
    let source = |addr: &str, millis| (Prefix::host(addr.parse().unwrap()), after(millis));
    let sources = [
        source("192.0.2.7", 500),
        source("2001:db8:7::1", 60_000),
        source("2001:db8:7::2", 90_000),
        source("198.51.100.7", 1_000_000_000_000),
    ];
    let [(_, set4), (_, set6)] = vouched(&sources.into(), now, Duration::from_secs(100));
    assert_eq!(Vec::from_iter(set4), ["192.0.2.7 timeout 1s", "198.51.100.7 timeout 100s"]);
    let want = ["2001:db8:7:: timeout 90s", "2001:db8:7::1 timeout 60s", "2001:db8:7::2 timeout 90s"];
    assert_eq!(Vec::from_iter(set6), want);
}
