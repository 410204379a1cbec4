//! The ledger against examples, and against a model so small that it is plainly right.

use proptest::prelude::*;
use psentry_records::{Common, Proto, VerdictBody};

use super::*;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_secs(1_000_000 + seconds).unwrap()
}

fn verdict(action: Action, scope: &str, when: u64, duration: Option<u64>) -> Verdict {
    let mut body = VerdictBody::new(action, scope.parse().unwrap());
    body.duration = duration;
    Verdict { common: Common::at(at(when)), body }
}

/// The decision, without the moment of the verdict.
fn decide(ledger: &mut Ledger, verdict: &Verdict, now: u64) -> Decision {
    let bare = |block: Block| Block { since: None, ..block };
    match ledger.decide(verdict, at(now), |_| None) {
        Decision::Block(block) => Decision::Block(bare(block)),
        Decision::Already { stands, asked } => Decision::Already { stands: bare(stands), asked: bare(asked) },
        decision => decision,
    }
}

/// The block that should stand already.
fn stays(decision: Decision) -> Option<Block> {
    match decision {
        Decision::Already { stands, .. } => Some(stands),
        _ => None,
    }
}

fn until(seconds: u64) -> Block {
    Block { until: Some(at(seconds)), ..Block::default() }
}

#[test]
fn a_longer_block_is_applied_again_and_a_shorter_one_stands_already() {
    let mut ledger = Ledger::new(10);
    let block = |when, duration| verdict(Action::Block, "192.0.2.7", when, duration);
    assert_eq!(decide(&mut ledger, &block(0, Some(60)), 1), Decision::Block(until(60)));
    assert_eq!(stays(decide(&mut ledger, &block(0, Some(30)), 1)), Some(until(60)));
    assert_eq!(stays(decide(&mut ledger, &block(0, Some(60)), 2)), Some(until(60)));
    assert_eq!(decide(&mut ledger, &block(3, Some(60)), 3), Decision::Block(until(63)));
    assert_eq!(decide(&mut ledger, &block(3, None), 3), Decision::Block(Block::default()));
    assert_eq!(stays(decide(&mut ledger, &block(3, Some(99)), 3)), Some(Block::default()));
    assert_eq!(decide(&mut ledger, &verdict(Action::Unblock, "192.0.2.7", 0, None), 4), Decision::Release);
    assert_eq!(decide(&mut ledger, &block(5, Some(1)), 5), Decision::Block(until(6)));
}

#[test]
fn a_replayed_log_blocks_nobody_and_a_clock_that_is_ahead_blocks_no_longer() {
    let mut ledger = Ledger::new(10);
    let old = verdict(Action::Block, "192.0.2.7", 0, Some(60));
    assert_eq!(decide(&mut ledger, &old, 60), Decision::Expired { until: at(60) });
    assert_eq!(decide(&mut ledger, &old, 9999), Decision::Expired { until: at(60) });
    let ahead = verdict(Action::Block, "192.0.2.7", 5000, Some(60));
    assert_eq!(decide(&mut ledger, &ahead, 10), Decision::Block(until(70)));
    let never = verdict(Action::Block, "192.0.2.8", 10, Some(0));
    assert_eq!(decide(&mut ledger, &never, 10), Decision::Expired { until: at(10) });
}

#[test]
fn beyond_its_bound_it_refuses_and_what_ends_makes_room() {
    let mut ledger = Ledger::new(1);
    decide(&mut ledger, &verdict(Action::Block, "192.0.2.7", 0, Some(60)), 0);
    let other = verdict(Action::Block, "192.0.2.8", 0, Some(90));
    assert!(matches!(decide(&mut ledger, &other, 59), Decision::Full(why) if why.contains("--max-blocks")));
    let longer = verdict(Action::Block, "192.0.2.7", 0, Some(61));
    assert_eq!(decide(&mut ledger, &longer, 59), Decision::Block(until(61)));
    assert_eq!(decide(&mut ledger, &other, 61), Decision::Block(until(90)));
    assert_eq!(ledger.len(), 1);
}

#[test]
fn a_block_knows_since_when_and_why_and_nothing_of_it_is_syntax() {
    let mut ledger = Ledger::new(10);
    let mut block = verdict(Action::Block, "192.0.2.7", 5, Some(60));
    block.body.reason = Some("7 ports\u{1b}[2J\n within 2 s".to_owned());
    block.body.rule = Some("fan\u{1b}[2J".to_owned());
    let Decision::Block(decided) = ledger.decide(&block, at(9), |_| None) else { panic!() };
    assert_eq!((decided.since, decided.until), (Some(at(5)), Some(at(65))));
    assert_eq!(decided.rule.as_deref(), Some("fan\\u{1b}[2J"));
    assert_eq!(decided.reason.as_deref(), Some("7 ports\\u{1b}[2J\\n within 2 s"));
    // A verdict of the future is one of now.
    block.body.scope = "192.0.2.8".parse().unwrap();
    block.common.timestamp = at(500);
    block.body.reason = Some("x".repeat(4000));
    let Decision::Block(decided) = ledger.decide(&block, at(9), |_| None) else { panic!() };
    assert_eq!((decided.since, decided.until), (Some(at(9)), Some(at(69))));
    assert_eq!(decided.reason.map(|reason| reason.len()), Some(300));
}

#[test]
fn what_must_not_be_blocked_and_what_only_watches_changes_nothing() {
    let mut ledger = Ledger::new(10);
    let block = verdict(Action::Block, "192.0.2.7", 0, None);
    let refused = ledger.decide(&block, at(0), |_| Some("no".to_owned()));
    assert_eq!(refused, Decision::Refused("no".to_owned()));
    assert_eq!(decide(&mut ledger, &verdict(Action::Watch, "192.0.2.7", 0, None), 0), Decision::Nothing);
    assert!(ledger.is_empty());
}

#[test]
fn of_what_earlier_runs_left_the_longest_is_adopted() {
    let mut ledger = Ledger::new(10);
    let scope = "192.0.2.7".parse().unwrap();
    for end in [Some(50), Some(70), Some(60)] {
        ledger.adopt(scope, &Block { until: end.map(at), ..Block::default() });
    }
    let shorter = verdict(Action::Block, "192.0.2.7", 0, Some(65));
    assert_eq!(stays(decide(&mut ledger, &shorter, 0)), Some(until(70)));
}

#[test]
fn what_somebody_let_in_is_wanted_as_it_stands_now() {
    let mut ledger = Ledger::new(10);
    let block = |duration| verdict(Action::Block, "192.0.2.7", 0, duration);
    decide(&mut ledger, &block(None), 0);
    let asked = Decision::Already { stands: Block::default(), asked: until(60) };
    assert_eq!(decide(&mut ledger, &block(Some(60)), 0), asked);
    let scope = "192.0.2.7".parse().unwrap();
    ledger.correct(scope, &until(5), until(70));
    assert_eq!(stays(decide(&mut ledger, &block(Some(60)), 0)), Some(Block::default()));
    let stands = Block { since: Some(at(0)), ..Block::default() };
    ledger.correct(scope, &stands, until(60));
    assert_eq!(decide(&mut ledger, &block(Some(61)), 0), Decision::Block(until(61)));
}

/// The model: for each of a few scopes the moment at which it ends (0: it does not stand; MAX: for ever).
fn model(stands: &mut [u64], verdict: &(bool, usize, u64, Option<u64>), now: u64) -> u64 {
    let (block, scope, when, duration) = *verdict;
    let end = duration.map_or(u64::MAX, |duration| when.min(now) + duration);
    if !block {
        stands[scope] = 0;
    } else if end > now {
        stands[scope] = if stands[scope] > now { stands[scope].max(end) } else { end };
    }
    stands[scope]
}

proptest! {
    #[test]
    fn any_sequence_of_verdicts_leaves_what_the_model_says(
        verdicts in prop::collection::vec(
            (any::<bool>(), 0usize..3, 0u64..50, prop::option::of(0u64..20), 0u64..5), 0..60)
    ) {
        let scopes = ["192.0.2.7", "192.0.2.0/24", "2001:db8::/64"];
        let mut ledger = Ledger::new(10);
        let mut stands = [0; 3];
        let mut now = 0;
        for (block, scope, when, duration, passes) in verdicts {
            now += passes;
            let action = if block { Action::Block } else { Action::Unblock };
            let decision = decide(&mut ledger, &verdict(action, scopes[scope], when, duration), now);
            let want = model(&mut stands, &(block, scope, when, duration), now);
            match decision {
                Decision::Block(got) | Decision::Already { stands: got, .. } => {
                    prop_assert!(want > now);
                    prop_assert_eq!(got.until, (want != u64::MAX).then(|| at(want)));
                }
                Decision::Release => prop_assert!(!block),
                Decision::Expired { until } => prop_assert!(block && until <= at(now)),
                other => prop_assert!(false, "{:?}", other),
            }
            let live = stands.iter().filter(|end| **end > now).count();
            prop_assert_eq!(ledger.len(), live);
        }
    }
}

/// A verdict that names ports.
fn probes(ports: &[u16], proto: Proto, duration: u64) -> Verdict {
    let mut verdict = verdict(Action::Block, "192.0.2.7", 0, Some(duration));
    verdict.body.ports = ports.to_vec();
    verdict.common.proto = Some(proto);
    verdict
}

fn shut(decision: Decision) -> (&'static str, Vec<u16>, Option<Proto>, Option<Timestamp>) {
    let (what, block) = match decision {
        Decision::Block(block) => ("block", block),
        Decision::Widened { both, .. } => ("widened", both),
        Decision::Already { stands, .. } => ("already", stands),
        other => panic!("{other:?}"),
    };
    (what, block.ports, block.proto, block.until)
}

#[test]
fn what_another_verdict_adds_for_a_scope_is_added_and_nothing_is_taken_away() {
    let mut ledger = Ledger::new(10).shutting(Ports::Probed);
    let (tcp, udp) = (Some(Proto::Tcp), Some(Proto::Udp));
    let end = |second: u64| Some(at(second));
    for (verdict, want) in [
        (probes(&[23, 22, 22], Proto::Tcp, 60), ("block", vec![22, 23], tcp, end(60))),
        (probes(&[22], Proto::Tcp, 30), ("already", vec![22, 23], tcp, end(60))),
        (probes(&[21], Proto::Tcp, 30), ("widened", vec![21, 22, 23], tcp, end(60))),
        (probes(&[21, 22, 23], Proto::Tcp, 90), ("block", vec![21, 22, 23], tcp, end(90))),
        (probes(&[21], Proto::Udp, 10), ("widened", vec![21, 22, 23], None, end(90))),
        (probes(&[22], Proto::Udp, 80), ("already", vec![21, 22, 23], None, end(90))),
        // Who names no port, or too many, shuts all.
        (probes(&[], Proto::Tcp, 50), ("widened", vec![], None, end(90))),
        (probes(&[22], Proto::Tcp, 90), ("already", vec![], None, end(90))),
        (probes(&(1..=121).collect::<Vec<_>>(), Proto::Udp, 95), ("block", vec![], udp, end(95))),
    ] {
        assert_eq!(shut(ledger.decide(&verdict, at(0), |_| None)), want, "{:?}", verdict.body.ports);
    }
    // Without the flag ports are only evidence.
    let mut ledger = Ledger::new(10);
    let decision = ledger.decide(&probes(&[22], Proto::Tcp, 60), at(0), |_| None);
    assert_eq!(shut(decision), ("block", vec![], tcp, end(60)));
}

#[test]
fn the_port_that_decided_is_shut_with_the_others() {
    let mut ledger = Ledger::new(10).shutting(Ports::Probed);
    let mut verdict = probes(&[22], Proto::Tcp, 60);
    verdict.common.dest_port = Some(8080);
    assert_eq!(shut(ledger.decide(&verdict, at(0), |_| None)).1, [22, 8080]);
}
