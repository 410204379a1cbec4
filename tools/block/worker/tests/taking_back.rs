//! What is given up before it stands.

use super::*;

#[test]
fn what_fails_is_not_tried_any_more_and_a_new_verdict_counts_alone() {
    let mut bench = bench(Left::default());
    let (long, short) = (from_now(600), from_now(60));
    bench.break_it(true);
    bench.ask(long, None);
    let lines = String::from_utf8(bench.worker.take_back()).unwrap();
    assert!(
        lines.contains("198.51.100.7/32") && lines.contains("\"released\"") && lines.contains("broken"),
        "{lines}"
    );
    assert_eq!(bench.told(), [(OutcomeResult::Failed, long), (OutcomeResult::Released, long)]);
    assert!(bench.worker.schedule.due(Timestamp::now().plus(Duration::from_secs(99))).is_empty());
    assert!(bench.worker.take_back().is_empty());
    assert_eq!(bench.worker.inbox.let_in(), [(scope(), block(long))], "it takes no room any more");
    // The ledger still believes in the long one.
    bench.break_it(false);
    bench.ask(short, Some(block(long)));
    assert_eq!((bench.told(), bench.stands()), (vec![(OutcomeResult::Applied, short)], Some(short)));
    assert_eq!(bench.worker.inbox.found(), [Found { scope: scope(), was: block(long), is: block(short) }]);
}

#[test]
fn what_waits_for_its_turn_is_not_begun() {
    let mut bench = bench(Left::default());
    let (long, short) = (from_now(600), from_now(60));
    let ask = |action| Ask {
        common: Common::at(Timestamp::now()),
        action,
        well: OutcomeResult::Applied,
        mark: Mark::default(),
    };
    let other: Prefix = "198.51.100.8".parse().unwrap();
    bench.worker.inbox.put(scope(), Wish::Block(block(long)), None, ask(Action::Block));
    bench.worker.inbox.put(other, Wish::Release(Block::default()), None, ask(Action::Unblock));
    let lines = String::from_utf8(bench.worker.take_back()).unwrap();
    assert_eq!(lines.lines().count(), 1, "{lines}");
    assert_eq!(bench.told(), [(OutcomeResult::Released, long)]);
    // To let somebody in is still wanted.
    let (arrived, _) = bench.worker.inbox.take(9, |_| false, Some(Timestamp::now()), None, None);
    assert_eq!(arrived.iter().map(|(scope, _)| *scope).collect::<Vec<_>>(), [other]);
    assert!(bench.fake.0.lock().unwrap().changes.is_empty());
    bench.ask(short, Some(block(long)));
    assert_eq!((bench.told(), bench.stands()), (vec![(OutcomeResult::Applied, short)], Some(short)));
}

#[test]
fn what_stood_while_a_longer_block_failed_stays_to_its_end() {
    let mut bench = bench(Left::default());
    let (long, short) = (from_now(600), from_now(60));
    bench.ask(short, None);
    bench.break_it(true);
    bench.ask(long, None);
    assert!(bench.worker.take_back().is_empty());
    assert_eq!(bench.worker.schedule.get(scope()).and_then(Plan::stands), Some(&block(short)));
}
