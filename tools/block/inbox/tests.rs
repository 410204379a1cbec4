//! The inbox: what waits, in which order, and who is woken.

use psentry_records::{Action, Common, OutcomeResult};

use super::queue::ANSWERS;
use super::*;
use crate::panic::Mark;

fn ask(action: Action) -> Ask {
    Ask { common: Common::at(Timestamp::now()), action, well: OutcomeResult::Applied, mark: Mark::default() }
}

fn put(inbox: &Inbox, scope: &str, wish: Wish, action: Action) {
    inbox.put(scope.parse().unwrap(), wish, None, ask(action));
}

fn block(until: u64) -> Block {
    Block { until: Timestamp::from_secs(until), ..Block::default() }
}

#[test]
fn only_the_latest_wish_for_a_scope_waits_and_every_verdict_is_answered() {
    let inbox = Inbox::new().unwrap();
    put(&inbox, "192.0.2.7", Wish::Block(Block::default()), Action::Block);
    put(&inbox, "192.0.2.8", Wish::Block(Block::default()), Action::Block);
    put(&inbox, "192.0.2.7", Wish::Release(Block::default()), Action::Unblock);
    assert_eq!(inbox.len(), 2);
    inbox.finish(Finish::Ended);
    let (taken, finish) = inbox.take(1, |_| false, None, None, None);
    assert_eq!((taken[0].0.to_string().as_str(), finish), ("192.0.2.7/32", None));
    assert_eq!(taken[0].1.wish, Wish::Release(Block::default()));
    assert_eq!(taken[0].1.asks.len(), 2);
    let (taken, finish) = inbox.take(9, |_| false, None, None, None);
    assert_eq!((taken.len(), finish), (1, Some(Finish::Ended)));
}

#[test]
fn what_should_stand_already_never_replaces_what_makes_it_stand() {
    let inbox = Inbox::new().unwrap();
    let scope = "192.0.2.7".parse().unwrap();
    let already = |until| inbox.put(scope, Wish::Block(block(until)), Some(block(9)), ask(Action::Block));
    put(&inbox, "192.0.2.7", Wish::Block(block(9)), Action::Block);
    already(5);
    let (taken, _) = inbox.take(1, |_| false, None, None, None);
    assert_eq!((&taken[0].1.wish, &taken[0].1.already), (&Wish::Block(block(9)), &None));
    for until in [5, 7, 6] {
        already(until);
    }
    let (taken, _) = inbox.take(1, |_| false, None, None, None);
    assert_eq!((&taken[0].1.wish, &taken[0].1.already), (&Wish::Block(block(7)), &Some(block(9))));
}

/// Each verdict may shut what the others do not, and none of them is lost while the backend is behind.
#[test]
fn ports_that_wait_for_one_scope_wait_together() {
    let scope = "192.0.2.7".parse().unwrap();
    let some = |ports: &[u16], until| Block { ports: ports.to_vec(), ..block(until) };
    for already in [None, Some(some(&[22, 23], 9))] {
        let inbox = Inbox::new().unwrap();
        inbox.put(scope, Wish::Block(some(&[22], 9)), already.clone(), ask(Action::Block));
        inbox.put(scope, Wish::Block(some(&[23], 5)), Some(some(&[22, 23], 9)), ask(Action::Block));
        let (taken, _) = inbox.take(1, |_| false, None, None, None);
        assert_eq!(taken[0].1.wish, Wish::Block(some(&[22, 23], 9)));
        assert_eq!(taken[0].1.already, already);
    }
}

#[test]
fn a_flood_for_one_scope_is_bounded() {
    let inbox = Inbox::new().unwrap();
    for _ in 0..1000 {
        put(&inbox, "192.0.2.7", Wish::Block(Block::default()), Action::Block);
    }
    let (taken, _) = inbox.take(9, |_| false, None, None, None);
    assert_eq!(taken[0].1.asks.len(), ANSWERS);
}

#[test]
fn the_end_wakes_whoever_waits() {
    let inbox = Inbox::new().unwrap();
    inbox.finish(Finish::Ended);
    assert_eq!(inbox.take(9, |_| false, None, None, None), (vec![], Some(Finish::Ended)));
    let deadline = Timestamp::now().plus(Duration::from_millis(20));
    assert_eq!(inbox.take(9, |_| false, Some(deadline), Some(Finish::Ended), None).0, vec![]);
    assert!(Timestamp::now() >= deadline);
}

#[test]
fn what_is_noticed_elsewhere_ends_the_waiting() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut writer, b"x").unwrap();
    let inbox = Inbox::new().unwrap();
    let started = std::time::Instant::now();
    assert_eq!(inbox.take(9, |_| false, None, None, Some(reader.as_fd())), (vec![], None));
    assert!(started.elapsed() < NAP / 2);
}

#[test]
fn whoever_waits_hears_what_comes_and_sleeps_again() {
    let inbox = Inbox::new().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| put(&inbox, "192.0.2.7", Wish::Block(Block::default()), Action::Block));
        assert_eq!(inbox.take(9, |_| false, None, None, None).0.len(), 1);
    });
    let deadline = Timestamp::now().plus(Duration::from_millis(50));
    assert_eq!(inbox.take(9, |_| false, Some(deadline), None, None).0, vec![]);
    assert!(Timestamp::now() >= deadline, "the bell has been heard");
}
