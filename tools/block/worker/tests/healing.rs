//! What others do to the blocks of a worker, with a backend that tells of it.

use super::*;
use crate::backend::{Cleared, Noticed};

fn somebody() -> Option<String> {
    Some("somebody".to_owned())
}

impl Bench {
    /// Somebody takes everything away.
    fn damage(&self) {
        let mut state = self.fake.0.lock().unwrap();
        state.stands.clear();
        state.noticed.damaged = somebody();
    }

    /// Somebody does that.
    fn others(&self, noticed: Noticed) {
        self.fake.0.lock().unwrap().noticed = noticed;
    }

    fn is_let_in(&self) -> bool {
        self.worker.schedule.get(scope()).unwrap().is_let_in()
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

/// Where nobody tells of changes, a look is due after each half second, and a repair may take longer than that.
#[test]
fn what_is_missing_in_the_middle_of_a_repair_was_not_let_in() {
    let mut bench = bench(Left::default());
    let until = from_now(60);
    bench.fake.0.lock().unwrap().looks = true;
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

/// A flush of psentry's own ends a repair that waits; a choice of lines does not.
#[test]
fn what_psentry_block_took_away_is_not_put_back_even_if_damage_waits() {
    for (noticed, let_in) in [
        (Noticed { cleared: Some(Cleared::default()), ..Noticed::default() }, true),
        (Noticed { edited: somebody(), ..Noticed::default() }, false),
        (
            Noticed {
                cleared: Some(Cleared { since: [scope()].into(), ..Cleared::default() }),
                ..Noticed::default()
            },
            false,
        ),
        (Noticed { cleared: Some(Cleared::default()), damaged: somebody(), ..Noticed::default() }, true),
    ] {
        let mut bench = bench(Left::default());
        bench.ask(from_now(60), None);
        bench.damage();
        bench.worker.notice();
        let still_damaged = noticed.cleared.is_none() || noticed.damaged.is_some();
        bench.others(noticed.clone());
        bench.worker.notice();
        assert_eq!(bench.is_let_in(), let_in, "{noticed:?}");
        assert_eq!(bench.worker.damage.is_some(), still_damaged, "{noticed:?}");
        bench.worker.round(Vec::new());
        assert_eq!(bench.stands().is_some(), still_damaged && !let_in, "{noticed:?}");
    }
}

#[test]
fn what_another_psentry_block_decided_is_not_cut_back() {
    let mut bench = bench(Left::default());
    let (short, long) = (from_now(60), from_now(600));
    bench.ask(short, None);
    let decided = [(scope(), Entry::new(scope(), long, None))].into();
    bench.fake.0.lock().unwrap().stands.insert(scope(), long);
    bench.others(Noticed { decided, damaged: somebody(), ..Noticed::default() });
    bench.worker.round(Vec::new());
    assert_eq!(bench.stands(), Some(long));
    let found = Found { scope: scope(), was: block(short), is: block(long) };
    assert_eq!(bench.worker.inbox.found(), [found]);
    // What others only made longer is set right.
    bench.fake.0.lock().unwrap().stands.insert(scope(), from_now(6000));
    bench.others(Noticed { damaged: somebody(), ..Noticed::default() });
    while bench.stands() != Some(long) {
        thread::sleep(Duration::from_millis(20));
        bench.worker.round(Vec::new());
    }
}

#[test]
fn when_it_cannot_be_asked_what_stands_nobody_is_let_in_for_it() {
    let mut bench = bench(Left::default());
    let until = from_now(60);
    bench.ask(until, None);
    bench.others(Noticed { let_in: vec![(scope(), "somebody".to_owned())], ..Noticed::default() });
    bench.fake.0.lock().unwrap().mute = true;
    bench.worker.notice();
    assert!(!bench.is_let_in());
    assert_eq!(bench.worker.damage, somebody());
    bench.fake.0.lock().unwrap().mute = false;
    bench.worker.round(Vec::new());
    assert_eq!(bench.told(), [(OutcomeResult::Applied, until)]);
}

/// The kernel counts on, and would hold it beyond its end.
#[test]
fn what_is_over_because_the_clock_was_set_forward_is_ended_even_where_the_kernel_ends_it() {
    for set_forward in [false, true] {
        let mut bench = bench(Left::default());
        bench.fake.0.lock().unwrap().ends_by_itself = true;
        let until = from_now(1);
        bench.ask(until, None);
        // As if what has passed since then had passed while nobody looked.
        if set_forward {
            bench.worker.last = Timestamp::from_secs(bench.worker.last.secs_ceil() - 600).unwrap();
        }
        while bench.worker.schedule.get(scope()).is_some() {
            thread::sleep(Duration::from_millis(20));
            bench.worker.round(Vec::new());
        }
        assert_eq!(bench.told(), [(OutcomeResult::Applied, until), (OutcomeResult::Expired, until)]);
        assert_eq!(bench.stands().is_none(), set_forward, "the kernel is trusted else");
    }
}

/// What the kernel ends may just have ended; what only psentry-block ends was taken out by somebody, however little was
/// left of it.
#[test]
fn who_is_taken_out_shortly_before_the_end_was_let_in_unless_the_kernel_ends_blocks() {
    for ends_by_itself in [false, true] {
        let mut bench = bench(Left::default());
        bench.fake.0.lock().unwrap().ends_by_itself = ends_by_itself;
        bench.ask(from_now(1), None);
        bench.fake.0.lock().unwrap().stands.clear();
        bench.others(Noticed { edited: somebody(), ..Noticed::default() });
        bench.worker.notice();
        assert_eq!(bench.is_let_in(), !ends_by_itself);
    }
}
