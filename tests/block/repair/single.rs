//! Single blocks: whoever deletes one, on whichever backend, is told how to release it, and whoever adds one how to block. What
//! `psentry-block` itself releases stays released.

use super::*;
use crate::lab::blocker::there;

/// The file of hosts-deny.
const FILE: &str = "/run/hosts.deny";

/// For each backend, how others delete the block of 203.0.113.7, and how they add one of 203.0.113.99.
const CHANGES: [(&str, &str, &str); 5] = [
    (
        "nft",
        "nft delete element inet psentry v4_32 '{ 203.0.113.7 }'",
        "nft add element inet psentry v4_32 '{ 203.0.113.99 timeout 1h }'",
    ),
    (
        "iptables",
        "iptables -D PSENTRY $(iptables -nL PSENTRY --line-numbers | awk '/203.0.113.7 /{print $1}')",
        "iptables -A PSENTRY -s 203.0.113.99 -j DROP",
    ),
    ("ipset", "ipset del psentry4 203.0.113.7", "ipset add psentry4 203.0.113.99 timeout 3600"),
    (
        "route",
        "ip route del blackhole 203.0.113.7 proto 158",
        "ip route add blackhole 203.0.113.99 metric 4294967295 proto 158",
    ),
    (
        "hosts-deny",
        "sed -i '/203.0.113.7$/d' /run/hosts.deny",
        "sed -i 's/^# END psentry/ALL: 203.0.113.99\\n&/' /run/hosts.deny",
    ),
];

#[test]
fn whoever_deletes_or_adds_a_single_block_is_told_what_to_do_instead() {
    let psentry = bin("psentry-block");
    for (backend, delete, add) in CHANGES {
        // Of one that is alone in its set or section, too.
        for others in [&[][..], &["203.0.113.8/32", "2001:db8:7::/64"]] {
            let lab = Lab::new();
            let (mut program, mut stdin) = start(&lab, &["--backend", backend, "--hosts-deny", FILE]);
            block(&mut program, &mut stdin, &[&[SCANNER], others].concat());
            let there = || there(&lab, backend);
            let before = there();
            assert_eq!(before.len(), 1 + others.len());
            damaged(&program, &lab.guard, delete, || there() == before);
            program.complaint("put back");
            put_back(&mut program, SCANNER);
            lab.guard.sh(add);
            let said = program.complaint("203.0.113.99/32");
            assert!(
                said.contains("added") && said.contains("'psentry-block block CIDR'"),
                "{backend}: {said}"
            );
            wait_until("it is gone", || there() == before);
            // Whoever psentry-block releases stays so, whatever is put back meanwhile.
            lab.guard.sh(&format!("{psentry} unblock 203.0.113.7"));
            assert_eq!(result(&mut program, SCANNER), OutcomeResult::Released, "{backend}");
            for scope in others {
                say(&mut stdin, Action::Unblock, scope, None);
                assert_eq!(result(&mut program, scope), OutcomeResult::Released);
            }
            block(&mut program, &mut stdin, &["203.0.113.9/32"]);
            lab.guard.sh(&delete.replace("113.7", "113.9"));
            put_back(&mut program, "203.0.113.9/32");
            assert_eq!(there().into_iter().collect::<Vec<_>>(), ["203.0.113.9/32"], "{backend}");
            lab.guard.sh(&format!("{psentry} flush"));
            assert_eq!(result(&mut program, "203.0.113.9/32"), OutcomeResult::Released, "{backend}");
            let left = lab.guard.sh(
                "nft list ruleset; ipset save; ip route show proto 158; cat /run/hosts.deny 2>/dev/null || true",
            );
            assert!(
                !left.to_lowercase().contains("psentry"),
                "{backend}: flushed, it is not made again: {left}"
            );
        }
    }
}

/// A block that others put there without an end, while nothing is repaired, is over at its own end.
#[test]
fn what_others_give_no_end_ends_with_its_block() {
    let lab = Lab::new();
    let (mut program, mut stdin) = start(&lab, &["--backend", "nft"]);
    block(&mut program, &mut stdin, &["203.0.113.8/32"]);
    // After that nothing is repaired for ten seconds.
    lab.guard.sh("for n in $(seq 30); do nft flush ruleset; sleep 0.12; done");
    program.complaint("again and again");
    say(&mut stdin, Action::Block, SCANNER, Some(3));
    assert_eq!(result(&mut program, SCANNER), OutcomeResult::Applied);
    lab.guard.sh("nft 'delete element inet psentry v4_32 { 203.0.113.7 }; add element inet psentry v4_32 { 203.0.113.7 }'");
    // Who asks has it listed, and nothing put right.
    lab.guard.run(&[bin("psentry-block"), "list"]);
    assert_eq!(result(&mut program, SCANNER), OutcomeResult::Expired);
    let list = lab.guard.sh("nft list set inet psentry v4_32");
    assert!(!list.contains("203.0.113.7"), "{list}");
}

/// Another end is no decision either.
#[test]
fn whoever_changes_when_a_block_ends_is_told_what_to_do_instead() {
    let lab = Lab::new();
    let (mut program, mut stdin) = start(&lab, &["--backend", "nft"]);
    block(&mut program, &mut stdin, &[SCANNER, "203.0.113.8/32"]);
    for timeout in ["timeout 2h", "timeout 5s", ""] {
        lab.guard.sh(&format!(
            "nft 'delete element inet psentry v4_32 {{ 203.0.113.7 }}; add element inet psentry v4_32 {{ 203.0.113.7 {timeout} }}'"
        ));
        let said = program.complaint("put back");
        assert!(said.contains(" changed 1 block"), "{timeout}: {said}");
        put_back(&mut program, SCANNER);
        assert!((500..=600).contains(&left(&lab.guard, "203.0.113.7")), "{timeout}");
    }
    // One for the other, in one transaction.
    lab.guard.sh("nft 'delete element inet psentry v4_32 { 203.0.113.7 }; \
         add element inet psentry v4_32 { 203.0.113.99 timeout 5m }'");
    program.complaint("deleted 1 block; put back");
    program.complaint("added 203.0.113.99/32; deleted");
    put_back(&mut program, SCANNER);
    let list = lab.guard.sh("nft list set inet psentry v4_32");
    assert!(list.contains("203.0.113.7 ") && !list.contains("203.0.113.99"), "{list}");
}
