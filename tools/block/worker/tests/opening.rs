//! A panic before, between and in the midst of what the worker does.

use super::*;
use crate::panic::Order;

/// A worker that heeds the panic of a directory.
fn heeding(directory: &tempfile::TempDir) -> (Bench, Panic) {
    let panic = Panic::looks_in(&[directory.path()]);
    let mut bench = bench(Left::default());
    bench.worker.heed(panic.clone(), panic.mark());
    (bench, panic)
}

#[test]
fn while_it_holds_nobody_is_blocked_and_every_verdict_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (mut bench, panic) = heeding(&directory);
    panic.declare(&Order::now(None)).unwrap();
    bench.ask(from_now(60), None);
    assert_eq!(bench.told(), [(OutcomeResult::Refused, None)]);
    assert!(bench.fake.0.lock().unwrap().changes.is_empty());
    assert!(bench.worker.inbox.opened(), "the ledger is told");
    panic.end().unwrap();
    let until = from_now(60);
    bench.ask(until, None);
    assert_eq!((bench.told(), bench.stands()), (vec![(OutcomeResult::Applied, until)], Some(until)));
    assert!(!bench.worker.inbox.opened());
}

#[test]
fn what_stands_is_let_in_and_what_fails_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    for broken in [false, true] {
        let (mut bench, panic) = heeding(&directory);
        bench.break_it(broken);
        bench.ask(from_now(60), None);
        bench.told();
        panic.declare(&Order::now(None)).unwrap();
        bench.break_it(false);
        bench.worker.round(Vec::new());
        assert_eq!((bench.told().len(), bench.stands()), (1, None));
        panic.end().unwrap();
        // Nothing is left that would come back.
        bench.worker.last_try();
        assert_eq!(bench.stands(), None);
        assert!(!bench.worker.is_needed());
    }
}

#[test]
fn declared_in_the_midst_of_it_what_slipped_in_goes() {
    let directory = tempfile::tempdir().unwrap();
    let (mut bench, panic) = heeding(&directory);
    let order = panic.clone();
    bench.fake.0.lock().unwrap().meanwhile =
        Some(Box::new(move || order.declare(&Order::now(None)).unwrap()));
    let until = from_now(60);
    bench.ask(until, None);
    assert_eq!(bench.told(), [(OutcomeResult::Applied, until), (OutcomeResult::Released, until)]);
    assert_eq!(bench.stands(), None);
    assert!(panic.end().unwrap());
}

#[test]
fn declared_in_the_midst_of_putting_back_or_of_the_last_try_nothing_slips_in() {
    for remembered in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let panic = Panic::looks_in(&[directory.path()]);
        let missing = if remembered { vec![(scope(), block(from_now(600)))] } else { Vec::new() };
        let mut bench = bench(Left { missing, ..Left::default() });
        bench.worker.heed(panic.clone(), panic.mark());
        if !remembered {
            bench.break_it(true);
            bench.ask(from_now(600), None);
            bench.break_it(false);
        }
        let order = panic.clone();
        bench.fake.0.lock().unwrap().meanwhile =
            Some(Box::new(move || order.declare(&Order::now(None)).unwrap()));
        if remembered {
            bench.worker.restore();
        } else {
            bench.worker.last_try();
        }
        assert!(panic.holds().is_some(), "it was tried");
        assert_eq!(bench.stands(), None);
    }
}

#[test]
fn a_panic_that_is_over_before_it_was_seen_lets_in_what_was_in_the_midst_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let (mut bench, panic) = heeding(&directory);
    let order = panic.clone();
    bench.fake.0.lock().unwrap().meanwhile = Some(Box::new(move || {
        order.declare(&Order::now(None)).unwrap();
        order.end().unwrap();
    }));
    let until = from_now(60);
    bench.ask(until, None);
    assert_eq!(bench.told(), [(OutcomeResult::Applied, until), (OutcomeResult::Released, until)]);
    assert_eq!(bench.stands(), None);
    // What is asked from now on is another matter.
    bench.fake.0.lock().unwrap().meanwhile = None;
    bench.ask(until, None);
    assert_eq!((bench.told(), bench.stands()), (vec![(OutcomeResult::Applied, until)], Some(until)));
}

#[test]
fn what_waited_all_the_while_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (mut bench, panic) = heeding(&directory);
    let mark = panic.mark();
    panic.declare(&Order::now(None)).unwrap();
    panic.end().unwrap();
    bench.ask_since(mark, block(from_now(60)), None);
    assert_eq!((bench.told(), bench.stands()), (vec![(OutcomeResult::Refused, None)], None));
}

/// He is logged in when his verdict has its turn, after the panic that it waited through: it is not made when he is gone.
#[test]
fn what_waited_all_the_while_does_not_wait_for_a_logout() {
    let directory = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let _session = (std::net::TcpStream::connect(("127.0.0.1", port)).unwrap(), listener.accept().unwrap());
    let here: Prefix = "127.0.0.1".parse().unwrap();
    for over in [false, true] {
        let (mut bench, panic) = heeding(&directory);
        bench.worker.guard =
            Guard::new(vec![port..=port], Duration::ZERO, crate::guard::allow::Allow::default());
        let (mark, common) = (panic.mark(), Common::at(Timestamp::now()));
        if over {
            panic.declare(&Order::now(None)).unwrap();
            panic.end().unwrap();
        }
        let ask = Ask { common, action: Action::Block, well: OutcomeResult::Applied, mark };
        bench.worker.inbox.put(here, Wish::Block(block(None)), None, ask);
        let (arrived, _) = bench.worker.inbox.take(1, |_| false, Some(Timestamp::now()), None, None);
        bench.worker.round(arrived);
        assert_eq!(bench.told(), [(OutcomeResult::Refused, None)]);
        assert_eq!(bench.worker.schedule.get(here).is_some(), !over, "whether it is tried again");
    }
}

#[test]
fn a_panic_while_it_was_read_what_an_earlier_run_left_counts() {
    let directory = tempfile::tempdir().unwrap();
    let panic = Panic::looks_in(&[directory.path()]);
    let mark = panic.mark();
    panic.declare(&Order::now(None)).unwrap();
    panic.end().unwrap();
    let missing = vec![(scope(), block(from_now(600)))];
    let mut bench = bench(Left { missing, ..Left::default() });
    bench.worker.heed(panic, mark);
    bench.worker.restore();
    assert!(bench.fake.0.lock().unwrap().changes.iter().all(|change| change.block().is_none()));
    assert!(bench.worker.schedule.is_empty());
}
