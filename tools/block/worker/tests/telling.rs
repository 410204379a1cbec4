//! What a worker says of itself to people who ask.

use super::*;
use crate::backend::Noticed;
use crate::people::Report;
use crate::run::room::Held;

impl Bench {
    fn report(&mut self) -> Report {
        self.worker.report(Held::default())
    }
}

#[test]
fn what_waits_for_its_turn_is_wanted_and_whom_it_is_to_let_in_is_not() {
    let mut bench = bench(Left::default());
    bench.ask(from_now(60), None);
    let other: Prefix = "198.51.100.8".parse().unwrap();
    bench.put(other, Wish::Block(block(from_now(60))));
    let report = bench.report();
    assert_eq!((report.wanted, report.standing, report.queued), (Some(2), Some(1), 1));
    assert!(!report.is_whole() && report.since.is_none());
    // What is over before its turn comes is wanted no more.
    bench.put(other, Wish::Block(block(Some(Timestamp::now()))));
    bench.put(scope(), Wish::Release(Block::default()));
    let report = bench.report();
    assert_eq!((report.wanted, report.standing, report.queued), (Some(0), Some(0), 0));
}

#[test]
fn since_is_when_the_last_of_what_was_missing_stood_again() {
    let mut bench = bench(Left::default());
    bench.ask(from_now(60), None);
    let began = bench.report().since.unwrap();
    // A verdict that is carried out at once is no gap.
    bench.ask(from_now(90), None);
    assert_eq!(bench.report().since, Some(began));
    bench.fake.0.lock().unwrap().stands.clear();
    let damaged = Noticed { damaged: Some("'nft'".to_owned()), ..Noticed::default() };
    bench.fake.0.lock().unwrap().noticed = damaged;
    bench.worker.round(Vec::new());
    let report = bench.report();
    assert!(report.since > Some(began) && report.since >= report.repaired, "{report:?}");
    assert_eq!(report.repair.as_deref(), Some("1 block, which 'nft' took away"));
    // Nobody told of this one; it is found when somebody asks.
    bench.fake.0.lock().unwrap().stands.clear();
    assert_eq!(bench.report().since, None);
    bench.fake.0.lock().unwrap().stands.insert(scope(), None);
    assert!(bench.report().since > report.since);
    // What fails is missing until it stands.
    bench.break_it(true);
    bench.ask(from_now(120), None);
    assert_eq!((bench.report().failing, bench.report().since), (1, None));
    bench.break_it(false);
    let failed = Timestamp::now();
    while bench.report().since.is_none() {
        thread::sleep(Duration::from_millis(20));
        bench.worker.round(Vec::new());
    }
    assert!(bench.report().since > Some(failed));
}

#[test]
fn when_only_the_ruleset_was_damaged_that_is_what_was_put_back() {
    let mut bench = bench(Left::default());
    bench.ask(from_now(60), None);
    bench.fake.0.lock().unwrap().mends = true;
    bench.fake.0.lock().unwrap().noticed.damaged = Some("'nft'".to_owned());
    bench.worker.round(Vec::new());
    assert_eq!(bench.report().repair.as_deref(), Some("the ruleset of psentry, which 'nft' took away"));
}

/// Only who damaged it can mend it: it is looked at again when it was changed, and that is no fight.
#[test]
fn what_somebody_has_to_mend_is_not_looked_at_again_and_again() {
    let mut bench = bench(Left::default());
    let until = from_now(60);
    bench.ask(until, None);
    let somebody = || Noticed { damaged: Some("somebody".to_owned()), ..Noticed::default() };
    bench.fake.0.lock().unwrap().garbled = true;
    bench.fake.0.lock().unwrap().noticed = somebody();
    bench.worker.round(Vec::new());
    assert!(bench.worker.unread.as_ref().is_some_and(|why| why.contains("mend it by hand")));
    let looked = bench.fake.0.lock().unwrap().looked;
    for _ in 0..100 {
        bench.worker.round(Vec::new());
    }
    assert_eq!((bench.fake.0.lock().unwrap().looked, bench.worker.next_look()), (looked, None));
    // Whoever mends it leaves a block out: while it was damaged, that was no choice.
    {
        let mut state = bench.fake.0.lock().unwrap();
        state.garbled = false;
        state.stands.clear();
        state.noticed.edited = Some("somebody".to_owned());
    }
    while bench.stands().is_none() {
        thread::sleep(Duration::from_millis(20));
        bench.worker.round(Vec::new());
    }
    assert_eq!((bench.stands(), bench.worker.unread.clone()), (Some(until), None));
    assert_eq!(bench.told(), [(OutcomeResult::Applied, until)]);
}

/// Whoever ends all blocks has it end its own, and what the ledger believes of them does not outlast a new verdict.
#[test]
fn whom_it_is_told_to_let_in_is_in_and_a_new_verdict_counts_alone() {
    let mut bench = bench(Left::default());
    let (long, short) = (from_now(600), from_now(60));
    bench.ask(long, None);
    let lines = String::from_utf8(bench.worker.let_all_whom_it_blocks_in()).unwrap();
    assert!(lines.lines().count() == 1 && lines.contains("\"released\""), "{lines}");
    assert_eq!(bench.told(), [(OutcomeResult::Applied, long), (OutcomeResult::Released, long)]);
    assert_eq!((bench.stands(), bench.worker.let_all_whom_it_blocks_in()), (None, Vec::new()));
    bench.ask(short, Some(block(long)));
    assert_eq!((bench.told(), bench.stands()), (vec![(OutcomeResult::Applied, short)], Some(short)));
}
