//! Flushes in the midst of repairs and of verdicts: those of others are put right, and that of psentry-block counts.

use psentry_records::Record;

use super::*;

fn flush() -> String {
    format!("{} flush", bin("psentry-block"))
}

/// A flush is seen although the set is being changed all the time.
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
        wait_until("all are there", || count(&lab.guard, "v4_32") == 1503);
        let (_, output, _) = program.terminate();
        assert!(!output.iter().any(|line| line.contains("released") || line.contains("failed")));
    }
}

/// Whoever has psentry-block release everybody does not wait for the end of a fight.
#[test]
fn a_flush_of_psentry_block_ends_a_repair_that_waits() {
    let lab = Lab::new();
    let (mut program, mut stdin) = start(&lab, &["--backend", "nft"]);
    block(&mut program, &mut stdin, &[SCANNER, "203.0.113.8/32"]);
    lab.guard.sh("for n in $(seq 30); do nft flush ruleset; sleep 0.12; done");
    program.complaint("again and again");
    // A new verdict makes the table again, and the rest waits.
    block(&mut program, &mut stdin, &["203.0.113.9/32"]);
    assert_eq!(count(&lab.guard, "v4_32"), 1);
    lab.guard.sh(&flush());
    let mut released: Vec<_> = (0..3).map(|_| release(&mut program)).collect();
    released.sort_unstable();
    let want =
        [SCANNER, "203.0.113.8/32", "203.0.113.9/32"].map(|scope| ("nft".to_owned(), scope.to_owned()));
    assert_eq!(released, want);
    assert_eq!(lab.guard.sh("nft list ruleset"), "");
    // What is blocked anew is put back at once again, for nobody fights any more about what was before.
    block(&mut program, &mut stdin, &[SCANNER]);
    assert_eq!(count(&lab.guard, "v4_32"), 1);
}

/// Of iptables and ipset each sees what is deleted for the other one, and makes nothing again.
#[test]
fn a_flush_of_iptables_and_ipset_together_leaves_nothing() {
    let scopes = ["2001:db8:7::/64", SCANNER, "203.0.113.8/32"];
    for backends in [["ipset", "iptables"], ["iptables", "ipset"]] {
        let lab = Lab::new();
        let (mut program, mut stdin) = start(&lab, &backends.map(|name| ["--backend", name]).concat());
        for _ in 0..5 {
            for scope in scopes {
                say(&mut stdin, Action::Block, scope, Some(600));
                let told = [0; 2].map(|_| result(&mut program, scope));
                assert_eq!(told, [OutcomeResult::Applied; 2], "{backends:?}");
            }
            lab.guard.sh(&flush());
            let mut released: Vec<_> = (0..6).map(|_| release(&mut program)).collect();
            released.sort_unstable();
            let mut want: Vec<_> = backends
                .iter()
                .flat_map(|name| scopes.map(|scope| ((*name).to_owned(), scope.to_owned())))
                .collect();
            want.sort_unstable();
            assert_eq!(released, want);
            let left = lab.guard.sh("iptables -S; ip6tables -S; ipset save");
            assert!(!left.to_lowercase().contains("psentry"), "{left}");
        }
        let (_, _, errors) = program.terminate();
        assert!(!errors.iter().any(|line| line.contains("put back")), "{errors:?}");
    }
}

/// The next release: on which backend, and whose. What is put back meanwhile is passed over.
fn release(program: &mut Program) -> (String, String) {
    let is_release = |record: &Record| matches!(record, Record::Outcome(outcome) if outcome.body.result == OutcomeResult::Released);
    let Record::Outcome(told) = program.record("a release", is_release) else { panic!() };
    (told.body.backend.unwrap(), told.body.scope.to_string())
}
