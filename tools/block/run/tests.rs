//! The main loop with backends that only take in what they are given.

use std::os::fd::AsFd;
use std::thread;

use psentry_records::{Action, Common, Prefix, Timestamp, Verdict, VerdictBody};
use psentry_stage::{Signals, StatsTimer};

use super::*;
use crate::backend::Block;
use crate::guard::allow::Allow;
use crate::inbox::Pending;
use crate::panic::Order;

fn hired(name: &'static str) -> Hired {
    Hired {
        name,
        spares: true,
        inbox: Arc::new(Inbox::new().unwrap()),
        thread: thread::spawn(|| Ok(())),
        pulse: Pulse::default(),
    }
}

/// A main loop with one backend that never gets to anything, and where it looks whether a panic holds.
fn stage() -> (Stage, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let panic = Panic::looks_in(&[directory.path()]);
    let signals = Signals::catch().unwrap();
    let reporter = Arc::new(Reporter::stdout(None, signals.as_fd()).unwrap());
    let stage = Stage {
        intake: Intake::stdin(signals).unwrap(),
        reporter,
        ledger: Ledger::new(10),
        workers: vec![hired("fake")],
        guard: Guard::new(vec![1..=1], Duration::from_secs(180), Allow::default()),
        allowed: 0,
        brake: None,
        most: 10,
        room: Room::default(),
        gone: Gone::default(),
        pass: false,
        control: None,
        over: false,
        mark: panic.mark(),
        stats: StatsTimer::start(Instant::now()),
        pulse: Pulse::default(),
        panic,
    };
    (stage, directory)
}

fn scope() -> Prefix {
    "198.51.100.7".parse().unwrap()
}

impl Stage {
    fn block(&mut self, duration: Option<u64>) {
        self.block_the(scope(), duration);
    }

    fn block_the(&mut self, scope: Prefix, duration: Option<u64>) {
        let body = VerdictBody { duration, ..VerdictBody::new(Action::Block, scope) };
        self.verdict(&Verdict { common: Common::at(Timestamp::now()), body });
    }

    /// What waits for the backend.
    fn waits(&self) -> Pending {
        let (mut taken, _) = self.workers[0].inbox.take(1, |_| false, Some(Timestamp::now()), None, None);
        taken.remove(0).1
    }
}

fn until(pending: &Pending) -> Option<Timestamp> {
    pending.wish.block().and_then(|block: &Block| block.until)
}

/// Whatever the backend is doing all the while.
#[test]
fn what_waited_since_before_a_panic_is_no_part_of_what_is_decided_after_it() {
    let (mut stage, _directory) = stage();
    stage.block(None);
    stage.panic.declare(&Order::now(None)).unwrap();
    stage.panic.end().unwrap();
    stage.block(Some(60));
    let waits = stage.waits();
    assert!(until(&waits).is_some() && waits.already.is_none(), "{waits:?}");
}

#[test]
fn what_is_decided_after_a_panic_is_not_forgotten_when_a_backend_sees_the_panic_later() {
    let (mut stage, _directory) = stage();
    stage.panic.declare(&Order::now(None)).unwrap();
    stage.panic.end().unwrap();
    stage.block(None);
    assert_eq!(until(&stage.waits()), None);
    stage.workers[0].inbox.tell_opened();
    stage.block(Some(60));
    let stands = stage.waits().already;
    assert!(stands.is_some_and(|stands| stands.until.is_none()), "the longer one stays");
}

/// Whoever flushes because there is no room has room then.
#[test]
fn who_was_let_in_on_every_backend_takes_no_room() {
    let (mut stage, _directory) = stage();
    stage.workers.push(hired("another"));
    (stage.ledger, stage.most) = (Ledger::new(1), 1);
    stage.block(None);
    let was = stage.waits().wish.block().unwrap().clone();
    let other: Prefix = "198.51.100.8".parse().unwrap();
    let let_in = |stage: &Stage, at: usize| stage.workers[at].inbox.tell_let_in(scope(), was.clone());
    for at in [0, 1] {
        stage.block_the(other, None);
        assert_eq!(stage.workers[0].inbox.len(), 0, "{at} of 2 let him in");
        let_in(&stage, at);
    }
    stage.block_the(other, None);
    assert_eq!(stage.workers[0].inbox.len(), 1);
}

#[test]
fn who_was_let_in_and_is_decided_anew_keeps_his_room() {
    let (mut stage, _directory) = stage();
    (stage.ledger, stage.most) = (Ledger::new(1), 1);
    stage.block(Some(60));
    let was = stage.waits().wish.block().unwrap().clone();
    let tell = |stage: &Stage| stage.workers[0].inbox.tell_let_in(scope(), was.clone());
    tell(&stage);
    stage.block(None);
    // And should it be told late.
    tell(&stage);
    stage.waits();
    stage.block_the("198.51.100.8".parse().unwrap(), None);
    assert_eq!(stage.workers[0].inbox.len(), 0);
    assert!(stage.ledger.holds(scope(), Timestamp::now()));
}
