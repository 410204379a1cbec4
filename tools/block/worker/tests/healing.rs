//! What others do to the blocks of a worker, with a backend that tells of it.

use super::*;

impl Bench {
    /// Somebody takes everything away.
    fn damage(&self) {
        let mut state = self.fake.0.lock().unwrap();
        state.stands.clear();
        state.damaged = true;
    }
}

#[test]
fn what_others_took_away_is_put_back_without_another_outcome() {
    let mut bench = bench(Left::default());
    let until = from_now(60);
    bench.ask(until, None);
    bench.damage();
    bench.worker.round(Vec::new());
    assert_eq!(bench.stands(), Some(until));
    assert_eq!(bench.told(), [(OutcomeResult::Applied, until)]);
}

#[test]
fn what_was_noticed_while_it_worked_does_not_wait_for_the_next_event() {
    let mut bench = bench(Left::default());
    bench.ask(from_now(60), None);
    bench.damage();
    assert!(bench.worker.next_look().is_none());
    bench.worker.notice();
    assert!(bench.worker.next().is_some_and(|next| next <= Timestamp::now()));
    // The one after a repair comes a moment later.
    bench.worker.round(Vec::new());
    bench.damage();
    bench.worker.notice();
    let next = bench.worker.next().unwrap();
    assert!(next > Timestamp::now() && next < Timestamp::now().plus(Duration::from_millis(150)));
}

#[test]
fn a_repair_that_fails_is_told_and_tried_again() {
    let mut bench = bench(Left::default());
    let until = from_now(60);
    bench.ask(until, None);
    bench.damage();
    bench.break_it(true);
    bench.worker.round(Vec::new());
    bench.break_it(false);
    assert!(bench.worker.schedule.get(scope()).unwrap().stands().is_none());
    while bench.stands().is_none() {
        thread::sleep(Duration::from_millis(20));
        bench.worker.round(Vec::new());
    }
    let results: Vec<OutcomeResult> = bench.told().into_iter().map(|(result, _)| result).collect();
    assert_eq!(results, [OutcomeResult::Applied, OutcomeResult::Failed, OutcomeResult::Applied]);
}
