//! A backend whose changes take their time: nothing waits for them that need not.

use super::*;

/// A worker whose backend has so much room.
fn slow(room: usize) -> Bench {
    let bench = bench(Left::default());
    bench.fake.0.lock().unwrap().slow = Some(room);
    bench
}

fn host(last: u8) -> Prefix {
    format!("198.51.100.{last}").parse().unwrap()
}

impl Bench {
    /// A turn of the worker that waits for nothing.
    fn turn(&mut self) {
        let (most, now) = (self.worker.room_for_news(), Some(Timestamp::now()));
        let busy = |scope| self.worker.is_under_way(scope);
        let (arrived, _) = self.worker.inbox.take(most, busy, now, None, None);
        self.worker.round(arrived);
    }

    fn let_go(&self, scope: Prefix) {
        self.fake.0.lock().unwrap().let_go.push(scope);
    }

    fn under_way(&self) -> Vec<Prefix> {
        self.fake.0.lock().unwrap().under_way.iter().map(|change| change.scope).collect()
    }
}

#[test]
fn each_is_told_when_it_is_over_and_the_next_begins() {
    let mut bench = slow(2);
    for last in 1..5 {
        bench.put(host(last), Wish::Block(block(None)));
    }
    bench.turn();
    assert_eq!((bench.under_way(), bench.told()), (vec![host(1), host(2)], vec![]));
    bench.let_go(host(2));
    bench.turn();
    assert_eq!(bench.told(), [(OutcomeResult::Applied, None)]);
    bench.turn();
    assert_eq!(bench.under_way(), [host(1), host(3)], "the first one holds up nobody");
    assert!(bench.worker.is_needed());
}

#[test]
fn what_comes_for_a_scope_that_is_under_way_waits_for_it_alone() {
    let mut bench = slow(2);
    bench.put(host(1), Wish::Block(block(None)));
    bench.turn();
    bench.put(host(1), Wish::Release(Block::default()));
    bench.put(host(2), Wish::Block(block(None)));
    bench.turn();
    assert_eq!(bench.under_way(), [host(1), host(2)]);
    bench.let_go(host(1));
    bench.turn();
    bench.turn();
    assert_eq!(bench.under_way(), [host(2), host(1)], "now it is let in");
    bench.let_go(host(1));
    bench.turn();
    assert_eq!(bench.told(), [(OutcomeResult::Applied, None), (OutcomeResult::Released, None)]);
}

/// Where all room is taken, nothing that needs some is due, and the worker does not spin.
#[test]
fn what_is_tried_again_has_its_turn_and_is_not_begun_twice() {
    let mut bench = slow(1);
    bench.break_it(true);
    bench.put(host(1), Wish::Block(block(None)));
    bench.turn();
    bench.let_go(host(1));
    bench.turn();
    assert_eq!(bench.told(), [(OutcomeResult::Failed, None)]);
    let due = bench.worker.next_due().unwrap();
    while Timestamp::now() < due {
        thread::sleep(Duration::from_millis(20));
    }
    // However much arrives.
    for last in 2..9 {
        bench.put(host(last), Wish::Block(block(None)));
    }
    let mut begun = Vec::new();
    while !begun.contains(&host(1)) {
        assert!(begun.len() < 3, "it never has its turn: {begun:?}");
        bench.turn();
        assert_eq!(bench.worker.next_due(), None);
        let [scope] = bench.under_way()[..] else { panic!("{:?}", bench.under_way()) };
        begun.push(scope);
        if scope != host(1) {
            bench.let_go(scope);
            bench.worker.gather();
        }
    }
    bench.turn();
    assert_eq!(bench.under_way(), [host(1)]);
}

#[test]
fn what_is_being_blocked_while_everybody_is_let_in_does_not_stay() {
    let mut bench = slow(1);
    bench.put(scope(), Wish::Block(block(None)));
    bench.turn();
    let lines = String::from_utf8(bench.worker.take_back()).unwrap();
    assert!(lines.contains("1 being blocked at this moment"), "{lines}");
    bench.let_go(scope());
    bench.turn();
    assert_eq!((bench.stands(), bench.told()), (Some(None), vec![(OutcomeResult::Applied, None)]));
    bench.let_go(scope());
    bench.turn();
    assert_eq!((bench.stands(), bench.told()), (None, vec![(OutcomeResult::Released, None)]));
    assert!(bench.worker.schedule.get(scope()).is_some_and(Plan::is_let_in));
}
