//! Decisions in the midst of damage and of verdicts: a flush while others flush, too, a flush while verdicts arrive, and
//! what another process of psentry-block decides.

use psentry_records::Record;

use super::*;

fn listed(guard: &Host) -> String {
    String::from_utf8_lossy(&guard.run(&["nft", "list", "table", "inet", "psentry"]).stdout).into_owned()
}

fn flush() -> String {
    format!("{} flush --backend nft", bin("psentry-block"))
}

/// What is put into a set right after somebody flushed it does not look as if it had stayed in it.
#[test]
fn a_set_that_is_flushed_amid_verdicts_is_put_back() {
    for _ in 0..4 {
        let lab = Lab::new();
        let (mut program, mut stdin) = start(&lab, &["--backend", "nft"]);
        let old = ["203.0.113.10/32", "203.0.113.20/32", "203.0.113.30/32"];
        block(&mut program, &mut stdin, &old);
        let feeder = std::thread::spawn(move || {
            for n in 0..1500u32 {
                say(&mut stdin, Action::Block, &format!("198.18.{}.{}", n / 250, n % 250), Some(600));
                std::thread::sleep(Duration::from_micros(300));
            }
            stdin
        });
        wait_until("verdicts arrive", || count(&lab.guard, "v4_32") > 300);
        lab.guard.sh("nft flush set inet psentry v4_32");
        let _stdin = feeder.join().unwrap();
        wait_until("all stand", || count(&lab.guard, "v4_32") == 1503);
        let (_, output, _) = program.terminate();
        assert!(!output.iter().any(|line| line.contains("released")));
    }
}

/// Whoever has psentry-block let everybody in does not wait for the end of a fight.
#[test]
fn a_flush_of_psentry_block_ends_a_repair_that_waits() {
    let lab = Lab::new();
    let (mut program, mut stdin) = start(&lab, &["--backend", "nft"]);
    block(&mut program, &mut stdin, &[SCANNER, "203.0.113.8/32"]);
    lab.guard.sh(&format!(
        "nft flush ruleset; until nft add element inet psentry v4_32 '{{ 203.0.113.99 timeout 1h }}'; do :; done; {}",
        flush()
    ));
    for scope in [SCANNER, "203.0.113.8/32"] {
        let told = outcome(&mut program, scope).body;
        assert_eq!(told.result, OutcomeResult::Released);
        assert!(told.error.is_some_and(|why| why.contains("'psentry-block'")));
    }
    assert_eq!(lab.guard.sh("nft list ruleset"), "");
    block(&mut program, &mut stdin, &[SCANNER, "203.0.113.8/32"]);
    lab.guard.sh("for n in $(seq 30); do nft flush ruleset; sleep 0.12; done");
    program.complaint("again and again");
    // A new verdict makes the table again, and the rest waits.
    block(&mut program, &mut stdin, &["203.0.113.9/32"]);
    lab.guard.sh(&flush());
    for scope in [SCANNER, "203.0.113.8/32", "203.0.113.9/32"] {
        assert_eq!(result(&mut program, scope), OutcomeResult::Released, "{scope}");
    }
    assert_eq!(lab.guard.sh("nft list ruleset"), "");
}

/// Of iptables and ipset each hears of what is taken away for the other one.
#[test]
fn a_flush_of_iptables_and_ipset_together_is_a_decision_on_both() {
    let scopes = [SCANNER, "203.0.113.8/32", "2001:db8:7::/64"];
    for backends in [["ipset", "iptables"], ["iptables", "ipset"]] {
        let lab = Lab::new();
        let flags = backends.map(|name| ["--backend", name]).concat();
        let (mut program, mut stdin) = start(&lab, &flags);
        for _ in 0..5 {
            for scope in scopes {
                say(&mut stdin, Action::Block, scope, Some(600));
                let told = [0; 2].map(|_| result(&mut program, scope));
                assert_eq!(told, [OutcomeResult::Applied; 2], "{backends:?}");
            }
            lab.guard.sh(&format!("{} flush {}", bin("psentry-block"), flags.join(" ")));
            let mut told: Vec<_> = (0..6).map(|_| ended(&mut program)).collect();
            told.sort();
            let mut want: Vec<_> =
                backends.iter().flat_map(|name| scopes.map(|scope| (*name, scope))).collect();
            want.sort();
            let told: Vec<_> = told.iter().map(|(name, scope)| (&**name, &**scope)).collect();
            assert_eq!(told, want);
            let left = lab.guard.sh("iptables -S; ip6tables -S; ipset save");
            assert!(!left.to_lowercase().contains("psentry"), "flushed on purpose: {left}");
        }
    }
}

/// On which backend whom somebody let in.
fn ended(program: &mut Program) -> (String, String) {
    let record = program.record("a release", |record| matches!(record, Record::Outcome(_)));
    let Record::Outcome(told) = record else { panic!() };
    assert_eq!(told.body.result, OutcomeResult::Released);
    (told.body.backend.unwrap(), told.body.scope.to_string())
}

/// One for the other, in one transaction.
#[test]
fn who_swaps_elements_lets_the_one_in() {
    let lab = Lab::new();
    let (mut program, mut stdin) = start(&lab, &["--backend", "nft"]);
    block(&mut program, &mut stdin, &[SCANNER, "203.0.113.8/32"]);
    lab.guard.sh("nft 'delete element inet psentry v4_32 { 203.0.113.7 }; \
         add element inet psentry v4_32 { 203.0.113.99 timeout 5m }'");
    assert_eq!(result(&mut program, SCANNER), OutcomeResult::Released);
    assert!(!listed(&lab.guard).contains("203.0.113.7 "));
}

/// Who blocks by hand for longer, beside the service, gets what is told.
#[test]
fn a_longer_block_from_another_psentry_block_stands() {
    let lab = Lab::new();
    let (mut program, mut stdin) = start(&lab, &["--backend", "nft"]);
    block(&mut program, &mut stdin, &[SCANNER]);
    let (mut second, mut by_hand) = start(&lab, &["--backend", "nft"]);
    say(&mut by_hand, Action::Block, SCANNER, Some(7200));
    assert_eq!(result(&mut second, SCANNER), OutcomeResult::Applied);
    drop(by_hand);
    assert!(second.end().0.success());
    // The first one has heard of it when it hears what comes after it, and puts it back as it is.
    lab.guard.sh("nft flush chain inet psentry prerouting");
    wait_until("the rules are back", || rules(&lab.guard) == 2);
    assert!(left(&lab.guard, "203.0.113.7") > 7000);
    lab.guard.sh("nft flush ruleset");
    wait_until("it is back", || count(&lab.guard, "v4_32") == 1);
    assert!(left(&lab.guard, "203.0.113.7") > 7000);
    // A shorter verdict changes nothing.
    say(&mut stdin, Action::Block, SCANNER, Some(900));
    assert_eq!(result(&mut program, SCANNER), OutcomeResult::Already);
    assert!(left(&lab.guard, "203.0.113.7") > 7000);
}

/// What others put before blocks without taking any away is theirs, and told once.
#[test]
fn what_is_put_before_blocks_is_told_once_and_left() {
    let lab = Lab::new();
    for (backend, flags, hand, words) in [
        (
            "nft",
            "inet psentry",
            "nft insert rule inet psentry prerouting ip saddr 203.0.113.0/24 accept",
            "put a rule that lets packets pass into the table inet psentry",
        ),
        (
            "route",
            "blackhole",
            "ip route replace 203.0.113.7/32 dev scanner metric 1",
            "203.0.113.7/32 is not cut off any more: another route",
        ),
        (
            "route",
            "blackhole",
            "ip route replace 198.18.0.128/25 dev scanner",
            "198.18.0.0/24 is not cut off any more: another route to 198.18.0.254",
        ),
    ] {
        let (mut program, mut stdin) = start(&lab, &["--backend", backend]);
        block(&mut program, &mut stdin, &[SCANNER, "198.18.0.0/24"]);
        lab.guard.sh(&format!("{hand}; {}", hand.replace("203.0.113.0/24 accept", "203.0.113.0/25 accept")));
        // What does not concern anybody who is blocked.
        lab.guard.sh(
            "nft add table inet filter '{ chain input { type filter hook input priority -400; accept; }; }'
                      ip route replace 198.19.0.0/16 dev scanner",
        );
        let said = program.complaint(words);
        println!("{said} ({flags})");
        block(&mut program, &mut stdin, &["198.18.7.7/32"]);
        let (_, _, errors) = program.terminate();
        let again: Vec<_> =
            errors.iter().filter(|line| line.contains("put a rule") || line.contains("cut off")).collect();
        assert!(again.is_empty(), "told once: {errors:?}");
        lab.guard.sh("ip route del 203.0.113.7/32 metric 1 2>/dev/null || true; ip route del 198.18.0.128/25 2>/dev/null || true
                      nft flush ruleset");
    }
}
