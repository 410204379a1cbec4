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
        ports: PortTable::builtin(),
        allow: Vec::new(),
    }
}

fn text(flags: &[&str]) -> String {
    let flags = Flags::parse_from([&["psentry-trap"], flags].concat());
    full(&Settings::from_flags(flags).unwrap(), &facts(), Duration::ZERO)
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
                 --veil 443,8000-8010 --familiar 7d --mirage 7777 --group 9 --rate 100 --source-rate 3";
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
    let flags = Flags::parse_from(["psentry-trap"]);
    let text = full(&Settings::from_flags(flags).unwrap(), &facts(), Duration::from_millis(93_200));
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
    ] {
        let text = text(flags);
        assert!(!text.contains('$') && !text.contains('?'), "{text}");
    }
}

#[test]
fn a_change_is_only_what_changed() {
    let (from, mut to) = (facts(), facts());
    assert_eq!(update(&from, &to), "");
    to.infrastructure.remove(&"2001:db8::53".parse().unwrap());
    to.listening.tcp.insert(443);
    to.client_ports = (20_000, 30_000);
    assert_eq!(
        update(&from, &to),
        "flush set inet psentry_trap own48\n\
         add element inet psentry_trap own48 { 2001:db8:1::/48, 64:ff9b::/48, fe80::/10 }\n\
         flush set inet psentry_trap infrastructure6\nflush set inet psentry_trap served_ports\n\
         add element inet psentry_trap served_ports { tcp . 22, tcp . 443, tcp . 80, udp . 53 }\n\
         flush set inet psentry_trap siblings\n\
         add element inet psentry_trap siblings { tcp . 53, tcp . 853, udp . 443, udp . 853 }\n\
         flush set inet psentry_trap client_ports\nadd element inet psentry_trap client_ports { 20000-30000 }\n"
    );
}
