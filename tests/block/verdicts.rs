//! psentry-block and its verdicts: what it refuses, what it does with longer, shorter and old ones, and what `unblock` means for
//! the next one.

use std::process::ChildStdin;
use std::time::Duration;

use psentry_records::{Action, Common, OutcomeResult, Record, Timestamp, Verdict, VerdictBody, Writer};

use crate::lab::blocker::{outcome, result, say, say_at, start};
use crate::lab::{GUARD, Lab, SCANNER, bin};

#[test]
fn whoever_must_not_be_cut_off_is_refused() {
    let lab = Lab::new();
    lab.guard
        .sh("ip route add default via 192.0.2.8; ip -6 route add default via 2001:db8:8::8 dev innocent");
    let (mut block, mut stdin) = start(&lab, &["--backend", "nft"]);
    for scope in [
        "198.51.100.1/32", // its own
        "2001:db8:1::/64", // holds its own
        "203.0.113.1/32",  // its own on another link
        "203.0.113.0/24",  // holds its own
        "127.0.0.1/32",
        "127.0.0.0/8",
        "::1/128",
        "169.254.7.7/32",
        "fe80::/64",
        "224.0.0.251/32",
        "ff02::1/128",
        "0.0.0.0/32",
        "255.255.255.255/32",
        "192.0.2.8/32",    // the gateway
        "2001:db8:8::/64", // holds the gateway
        "0.0.0.0/0",
        "::/0",
        "64.0.0.0/2", // too wide
        "2000::/8",
    ] {
        say(&mut stdin, Action::Block, scope, Some(60));
        let outcome = outcome(&mut block, scope);
        assert_eq!(outcome.body.result, OutcomeResult::Refused, "{scope}");
        assert!(outcome.body.error.is_some_and(|why| why.len() > 10), "{scope}: why?");
    }
    // The broadcast address of a network, and the next hop of half of the way out.
    lab.guard.sh("ip route add 128.0.0.0/1 via 192.0.2.9");
    let mut near = vec!["203.0.113.255/32", "192.0.2.9/32"];
    // The peer of a tunnel that is the other half, where tunnels can be made.
    let tunnel = "ip tuntap add name ppp mode tun && ip address add 198.18.7.1 peer 198.18.7.2 dev ppp &&
        ip link set ppp up && ip route add 0.0.0.0/1 dev ppp";
    if lab.guard.ok(&["sh", "-ec", tunnel]) {
        near.push("198.18.7.2/32");
    }
    for scope in near {
        say(&mut stdin, Action::Block, scope, Some(60));
        assert_eq!(result(&mut block, scope), OutcomeResult::Refused, "{scope}");
    }
    // An address that the guard gets while psentry-block runs is its own from then on.
    lab.guard.sh("ip address add 192.0.2.77/32 dev lo");
    say(&mut stdin, Action::Block, "192.0.2.77", Some(60));
    assert_eq!(result(&mut block, "192.0.2.77/32"), OutcomeResult::Refused);
    say(&mut stdin, Action::Block, SCANNER[0], Some(60));
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Applied);
}

/// A verdict about a prefix, for what came from an address in it.
fn say_around(stdin: &mut ChildStdin, action: Action, source: Option<&str>, scope: &str) {
    let mut common = Common::at(Timestamp::now());
    common.src_ip = source.map(|source| source.parse().unwrap());
    let body = VerdictBody { duration: Some(600), ..VerdictBody::new(action, scope.parse().unwrap()) };
    Writer::new(stdin).write(&Record::Verdict(Verdict { common, body })).unwrap();
}

/// An attacker from a network of this machine's own is blocked without it.
#[test]
fn of_a_prefix_that_holds_whom_not_to_block_the_source_alone_is_blocked() {
    let lab = Lab::new();
    let _service = lab.service(8088);
    lab.guard.sh("echo 192.0.2.7 > /run/allow; ip address add 2001:db8:7::1/64 dev scanner nodad
        ip route add default via 198.18.5.1 dev scanner onlink");
    let (mut block, mut stdin) = start(&lab, &["--backend", "nft", "--allow", "/run/allow"]);
    for (source, scope, blocked, holds) in [
        ("203.0.113.7", "203.0.113.0/24", "203.0.113.7/32", "holds 203.0.113.1, an address of this machine"),
        (
            "2001:db8:7::7",
            "2001:db8:7::/64",
            "2001:db8:7::7/128",
            "holds 2001:db8:7::1, an address of this machine",
        ),
        ("192.0.2.9", "192.0.2.4/30", "192.0.2.9/32", ""),
        ("192.0.2.6", "192.0.2.4/30", "192.0.2.6/32", "holds an address that --allow names"),
        (
            "198.18.5.7",
            "198.18.5.0/24",
            "198.18.5.7/32",
            "holds 198.18.5.1, the default gateway of this machine",
        ),
    ] {
        say_around(&mut stdin, Action::Block, Some(source), scope);
        if holds.is_empty() {
            // What is not in the prefix has nothing to do with it.
            assert_eq!(result(&mut block, scope), OutcomeResult::Refused);
            continue;
        }
        let outcome = outcome(&mut block, blocked);
        assert_eq!(outcome.body.result, OutcomeResult::Applied, "{scope}");
        assert_eq!(outcome.body.error, None);
        assert_eq!(outcome.body.reason, Some(format!("{scope} {holds}; {source} alone is blocked")));
    }
    for address in GUARD {
        assert!(lab.scanner.is_shut_out(address, 8088), "{address}");
        assert!(lab.innocent.reaches(address, 8088), "{address}");
    }
    // Whoever was blocked in its place is released in its place, and by himself.
    say_around(&mut stdin, Action::Unblock, Some(SCANNER[1]), "2001:db8:7::/64");
    assert_eq!(result(&mut block, "2001:db8:7::7/128"), OutcomeResult::Released);
    say(&mut stdin, Action::Unblock, SCANNER[0], None);
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Released);
    // Nor is the source blocked where it is such an address itself, or where nobody says which it is.
    for (source, scope) in [
        (Some("203.0.113.1"), "203.0.113.0/24"),
        (Some("192.0.2.7"), "192.0.2.4/30"),
        (None, "203.0.113.0/24"),
        (Some("198.51.100.1"), "198.51.100.1/32"),
    ] {
        say_around(&mut stdin, Action::Block, source, scope);
        assert_eq!(result(&mut block, scope), OutcomeResult::Refused, "{source:?} {scope}");
    }
    // The machine gets an address in a prefix that could be blocked until then.
    lab.guard.sh("ip address add 198.18.9.1/32 dev lo");
    say_around(&mut stdin, Action::Block, Some("198.18.9.7"), "198.18.9.0/24");
    assert_eq!(result(&mut block, "198.18.9.7/32"), OutcomeResult::Applied);
}

#[test]
fn the_longer_of_two_blocks_counts() {
    let lab = Lab::new();
    let (mut block, mut stdin) = start(&lab, &["--backend", "nft"]);
    let scope = "203.0.113.7/32";
    say(&mut stdin, Action::Block, scope, Some(600));
    assert_eq!(result(&mut block, scope), OutcomeResult::Applied);
    say(&mut stdin, Action::Block, scope, Some(60));
    assert_eq!(result(&mut block, scope), OutcomeResult::Already);
    say(&mut stdin, Action::Block, scope, Some(7200));
    assert_eq!(result(&mut block, scope), OutcomeResult::Applied);
    let list = lab.guard.sh(
        "nft -j list set inet psentry v4_32 | jq -c '.nftables[] | .set.elem // empty | .[].elem.expires'",
    );
    let left: u64 = list.trim().parse().unwrap_or_else(|_| panic!("one element with an end: {list}"));
    assert!((7000..=7200).contains(&left), "the kernel knows the longer end: {left}");
    say(&mut stdin, Action::Block, scope, None);
    assert_eq!(outcome(&mut block, scope).body.until, None, "until unblocked is longer than any");
    say(&mut stdin, Action::Unblock, scope, None);
    assert_eq!(result(&mut block, scope), OutcomeResult::Released);
    let list = lab.guard.sh("nft list ruleset");
    assert!(!list.contains("203.0.113.7"), "{list}");
}

#[test]
fn a_host_and_its_network_are_blocked_and_unblocked_apart() {
    for backend in ["nft", "iptables", "ipset", "route"] {
        let lab = Lab::new();
        let _service = lab.service(8088);
        let (mut block, mut stdin) = start(&lab, &["--backend", backend]);
        for scope in ["203.0.113.6/31", "203.0.113.7/32", "203.0.112.0/28"] {
            say(&mut stdin, Action::Block, scope, Some(600));
            assert_eq!(result(&mut block, scope), OutcomeResult::Applied, "{backend}: {scope}");
        }
        assert!(lab.scanner.is_shut_out(GUARD[0], 8088), "{backend}");
        // Networks with the same first address, for the same reason.
        for scope in ["2001:db8:7::/56", "2001:db8:7::/64", "2001:db8:7::/128"] {
            say(&mut stdin, Action::Block, scope, None);
            assert_eq!(result(&mut block, scope), OutcomeResult::Applied, "{backend}: {scope}");
        }
        for (scope, reaches) in
            [("2001:db8:7::/64", false), ("2001:db8:7::/56", true), ("2001:db8:7::/128", true)]
        {
            say(&mut stdin, Action::Unblock, scope, None);
            assert_eq!(result(&mut block, scope), OutcomeResult::Released, "{backend}: {scope}");
            assert_eq!(!lab.scanner.is_shut_out(GUARD[1], 8088), reaches, "{backend}: after {scope}");
        }
        for (scope, reaches) in [("203.0.113.7/32", false), ("203.0.113.6/31", true)] {
            say(&mut stdin, Action::Unblock, scope, None);
            assert_eq!(result(&mut block, scope), OutcomeResult::Released, "{backend}: {scope}");
            assert_eq!(!lab.scanner.is_shut_out(GUARD[0], 8088), reaches, "{backend}: after {scope}");
        }
    }
}

#[test]
fn an_old_verdict_blocks_nobody_and_a_future_one_not_for_longer() {
    let lab = Lab::new();
    let (mut block, mut stdin) = start(&lab, &["--backend", "nft"]);
    say_at(
        &mut stdin,
        Timestamp::from_secs(1_700_000_000).unwrap(),
        Action::Block,
        "203.0.113.7",
        Some(3600),
    );
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Expired);
    let now = Timestamp::now();
    say_at(&mut stdin, now.plus(Duration::from_secs(86_400)), Action::Block, "203.0.113.8", Some(600));
    let until = outcome(&mut block, "203.0.113.8/32").body.until.unwrap();
    assert!(until.since(now).as_secs() <= 630, "{until}");
    assert!(!lab.guard.sh("nft list ruleset").contains("203.0.113.7"));
}

/// What was wanted before is forgotten with it.
#[test]
fn who_was_unblocked_is_not_blocked_for_longer_than_the_next_verdict_says() {
    let lab = Lab::new();
    for name in ["nft", "ipset", "route", "iptables"] {
        let (mut block, mut stdin) = start(&lab, &["--backend", name]);
        say(&mut stdin, Action::Block, "203.0.113.7", Some(86_400));
        assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Applied, "{name}");
        say(&mut stdin, Action::Block, "203.0.113.7", Some(60));
        assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Already, "{name}");
        lab.guard.read(&[bin("psentry-block"), "unblock", "--json", "203.0.113.7", "--backend", name]);
        assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Released, "{name}");
        for (duration, want) in [(60, OutcomeResult::Applied), (50, OutcomeResult::Already)] {
            say(&mut stdin, Action::Block, "203.0.113.7", Some(duration));
            let outcome = outcome(&mut block, "203.0.113.7/32");
            assert_eq!(outcome.body.result, want, "{name}");
            assert!(outcome.body.until.unwrap().since(Timestamp::now()).as_secs() <= 60, "{name}");
        }
        lab.guard.read(&[bin("psentry-block"), "flush", "--json", "--backend", name]);
    }
}
