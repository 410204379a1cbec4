//! What blocks are in (tables, chains, sets, routes, a file): made again before an outcome says that something is blocked, and left
//! as it was found. What is put back without a verdict is in `repair.rs`.

use std::io::Write;

use psentry_records::{Action, OutcomeResult, Record};

use crate::lab::blocker::{outcome, result, say, start};
use crate::lab::{GUARD, Lab, Program, bin};

/// Somebody's table that is dormant and empty is made to work, and then filled.
#[test]
fn an_empty_dormant_table_is_no_obstacle() {
    let lab = Lab::new();
    lab.guard.sh("nft add table inet psentry '{ flags dormant; }'");
    let (mut block, mut stdin) = start(&lab, &["--backend", "nft"]);
    say(&mut stdin, Action::Block, "203.0.113.7", Some(600));
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Applied);
    assert!(!lab.guard.sh("nft list ruleset").contains("dormant"));
}

/// However somebody deleted the rules, whoever is blocked by an outcome is dropped.
#[test]
fn a_set_without_its_rule_gets_it_again() {
    let lab = Lab::new();
    let _service = lab.service(8088);
    let (mut block, mut stdin) = start(&lab, &["--backend", "nft"]);
    for (n, vandal) in [
        "true",
        "nft flush table inet psentry",
        "nft flush chain inet psentry prerouting",
        "nft 'flush chain inet psentry prerouting; delete chain inet psentry prerouting'",
        "nft delete rule inet psentry prerouting handle \\
             $(nft -a list chain inet psentry prerouting | sed -n 's/.*@v4_32 .*handle //p')",
    ]
    .into_iter()
    .enumerate()
    {
        lab.guard.sh(vandal);
        // Another scope first: it is the set that needs its rule, and not the scope.
        for scope in [format!("198.18.0.{n}/32"), "203.0.113.7/32".to_owned()] {
            say(&mut stdin, Action::Block, &scope, Some(600));
            assert_eq!(result(&mut block, &scope), OutcomeResult::Applied, "{vandal}");
        }
        assert!(lab.scanner.is_shut_out(GUARD[0], 8088), "{vandal}");
        let rules = lab.guard.sh("nft list chain inet psentry prerouting");
        assert_eq!((rules.matches("@v4_32").count(), rules.matches("@v6_64").count()), (1, 1), "{rules}");
        say(&mut stdin, Action::Unblock, "203.0.113.7/32", None);
        assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Released);
    }
}

/// A blackhole behind another route has no effect, and is not left there.
#[test]
fn a_network_that_another_route_leads_to_is_no_block() {
    let lab = Lab::new();
    lab.guard.sh("ip route add 198.18.1.0/24 dev scanner; ip route add 198.18.2.254/32 dev scanner");
    let (mut block, mut stdin) = start(&lab, &["--backend", "route"]);
    for (scope, want) in [
        ("198.18.1.0/24", OutcomeResult::Failed),
        ("198.18.2.0/24", OutcomeResult::Failed),
        ("198.18.3.0/24", OutcomeResult::Applied),
        ("2001:db8:7::/64", OutcomeResult::Applied),
    ] {
        say(&mut stdin, Action::Block, scope, Some(600));
        let outcome = outcome(&mut block, scope);
        assert_eq!(outcome.body.result, want, "{outcome:?}");
    }
    let holes = lab.guard.sh("ip route show type blackhole");
    assert!(!holes.contains("198.18.1.") && !holes.contains("198.18.2."), "{holes}");
}

#[test]
fn many_verdicts_at_once_all_come_true() {
    let lab = Lab::new();
    let (mut block, mut stdin) =
        start(&lab, &["--backend", "nft", "--backend", "ipset", "--backend", "route"]);
    let feeder = std::thread::spawn(move || {
        for n in 0..2000u32 {
            say(&mut stdin, Action::Block, &format!("198.18.{}.{}", n / 250, n % 250), Some(600));
        }
    });
    for _ in 0..6000 {
        block.record(
            "applied",
            |record| matches!(record, Record::Outcome(o) if o.body.result == OutcomeResult::Applied),
        );
    }
    feeder.join().unwrap();
    for (look, count) in [
        ("nft -j list set inet psentry v4_32 | jq '.nftables[] | .set.elem // empty | length'", "2000"),
        ("ipset save psentry4 | grep -c ^add", "2000"),
        ("ip route show type blackhole | wc -l", "2000"),
    ] {
        assert_eq!(lab.guard.sh(look).trim(), count, "{look}");
    }
}

/// hosts.deny keeps its mode, its owner and every byte that is not ours.
#[test]
fn hosts_deny_is_left_as_it_was_found() {
    let lab = Lab::new();
    for (before, mode) in [
        (Some(&b"ALL: 192.0.2.66\n"[..]), "640"),
        (Some(b"no newline at the end"), "600"),
        (Some(b"\xff\xfe not UTF-8\n"), "644"),
        (Some(b""), "644"),
        (None, ""),
    ] {
        lab.guard.sh("rm -f /run/hosts.deny");
        if let Some(before) = before {
            let mut tee = Program::start_fed(lab.guard.command("tee").arg("/run/hosts.deny"));
            tee.stdin().write_all(before).unwrap();
            tee.end();
            lab.guard.sh(&format!("chmod {mode} /run/hosts.deny"));
        }
        let flags = ["--backend", "hosts-deny", "--hosts-deny", "/run/hosts.deny"];
        let (mut block, mut stdin) = start(&lab, &flags);
        for scope in ["203.0.113.7/32", "2001:db8:7::/64", "198.18.0.0/15"] {
            say(&mut stdin, Action::Block, scope, Some(600));
            assert_eq!(result(&mut block, scope), OutcomeResult::Applied);
        }
        if before.is_some() {
            assert_eq!(lab.guard.sh("stat -c %a /run/hosts.deny").trim(), mode);
        }
        drop(stdin);
        lab.guard.read(&[&[bin("psentry-block"), "flush", "--json"], &flags[..]].concat());
        let after = lab.guard.run(&["cat", "/run/hosts.deny"]);
        assert_eq!(after.status.success().then_some(&after.stdout[..]), before);
    }
}
