//! The worker with a backend that does as it is told, and only that.

mod fake;
mod healing;
mod opening;
mod ports;
mod taking_back;
mod telling;
mod under_way;

use std::os::fd::AsFd;

use psentry_records::{Action, Common, OutcomeResult};

use self::fake::Fake;
use super::*;
use crate::backend::Wish;
use crate::inbox::Ask;
use crate::inbox::Found;

/// Nobody logs in at a port on which nothing listens.
fn guard() -> Guard {
    Guard::new(vec![1..=1], Duration::from_secs(180), crate::guard::allow::Allow::default())
}

/// A worker, its backend, and what it said.
struct Bench {
    worker: Worker,
    fake: Fake,
}

fn bench(left: Left) -> Bench {
    let fake = Fake::default();
    let (pipe, _writer) = std::io::pipe().unwrap();
    let reporter = Arc::new(Reporter::stdout(None, pipe.as_fd()).unwrap());
    let inbox = Arc::new(Inbox::new().unwrap());
    let worker = Worker::new(Box::new(fake.clone()), left, None, inbox, guard(), reporter);
    Bench { worker, fake }
}

fn scope() -> Prefix {
    "198.51.100.7".parse().unwrap()
}

fn from_now(seconds: u64) -> Option<Timestamp> {
    Some(Timestamp::now().plus(Duration::from_secs(seconds)))
}

fn block(until: Option<Timestamp>) -> Block {
    Block { until, ..Block::default() }
}

impl Bench {
    fn ask(&mut self, until: Option<Timestamp>, already: Option<Block>) {
        self.ask_for(block(until), already);
    }

    fn ask_for(&mut self, block: Block, already: Option<Block>) {
        self.ask_since(self.worker.panic.mark(), block, already);
    }

    /// What was asked after this panic, and before any later one.
    fn ask_since(&mut self, mark: Mark, block: Block, already: Option<Block>) {
        let well = if already.is_some() { OutcomeResult::Already } else { OutcomeResult::Applied };
        let ask = Ask { common: Common::at(Timestamp::now()), action: Action::Block, well, mark };
        self.worker.inbox.put(scope(), Wish::Block(block), already, ask);
        let (arrived, _) = self.worker.inbox.take(1, |_| false, Some(Timestamp::now()), None, None);
        self.worker.round(arrived);
    }

    /// A verdict that waits for its turn.
    fn put(&self, scope: Prefix, wish: Wish) {
        let action = if wish.block().is_some() { Action::Block } else { Action::Unblock };
        let ask = Ask {
            common: Common::at(Timestamp::now()),
            action,
            well: OutcomeResult::Applied,
            mark: Mark::default(),
        };
        self.worker.inbox.put(scope, wish, None, ask);
    }

    fn told(&self) -> Vec<(OutcomeResult, Option<Timestamp>)> {
        let told = std::mem::take(&mut *self.worker.reporter.told.lock().unwrap());
        told.into_iter().map(|body| (body.result, body.until)).collect()
    }

    fn stands(&self) -> Option<Option<Timestamp>> {
        self.fake.0.lock().unwrap().stands.get(&scope()).copied()
    }

    fn break_it(&self, broken: bool) {
        self.fake.0.lock().unwrap().broken = broken;
    }
}

#[test]
fn a_verdict_that_waited_beyond_its_end_blocks_nobody() {
    let mut bench = bench(Left::default());
    let over = Some(Timestamp::now());
    bench.ask(over, None);
    assert_eq!(bench.told(), [(OutcomeResult::Expired, over)]);
    assert_eq!(bench.stands(), None);
    assert!(bench.fake.0.lock().unwrap().changes.iter().all(|change| change.block().is_none()));
}

#[test]
fn who_was_let_in_by_hand_is_shut_out_only_as_long_as_the_new_verdict_says() {
    let mut bench = bench(Left::default());
    let short = from_now(60);
    bench.ask(None, None);
    bench.ask(short, Some(block(None)));
    assert_eq!(bench.told(), [(OutcomeResult::Applied, None), (OutcomeResult::Already, None)]);
    bench.fake.0.lock().unwrap().stands.clear();
    bench.ask(short, Some(block(None)));
    assert_eq!(bench.told(), [(OutcomeResult::Applied, short)]);
    assert_eq!(bench.stands(), Some(short));
    let found = Found { scope: scope(), was: block(None), is: block(short) };
    assert_eq!(bench.worker.inbox.found(), [found]);
}

#[test]
fn what_failed_and_then_stands_is_applied_and_not_already() {
    let mut bench = bench(Left::default());
    let until = from_now(60);
    bench.break_it(true);
    bench.ask(until, None);
    bench.break_it(false);
    bench.ask(from_now(50), Some(block(until)));
    assert_eq!(bench.told(), [(OutcomeResult::Failed, until), (OutcomeResult::Applied, until)]);
}

#[test]
fn an_extension_that_fails_keeps_what_stands_to_its_end() {
    let mut bench = bench(Left::default());
    let (short, long) = (from_now(1), from_now(600));
    bench.ask(short, None);
    bench.break_it(true);
    bench.ask(long, None);
    bench.worker.last_try();
    assert_eq!(bench.stands(), Some(short));
    assert!(bench.worker.is_needed());
    while bench.stands().is_some() {
        thread::sleep(Duration::from_millis(20));
        bench.worker.round(Vec::new());
    }
    assert_eq!(bench.told().last(), Some(&(OutcomeResult::Expired, short)));
    assert!(!bench.worker.is_needed());
    assert!(bench.worker.result().is_err(), "what was given up is told");
}

#[test]
fn while_an_extension_fails_the_older_block_ends_in_time() {
    let mut bench = bench(Left::default());
    let (short, long) = (from_now(1), from_now(600));
    bench.ask(short, None);
    bench.break_it(true);
    bench.ask(long, None);
    while bench.stands().is_some() {
        thread::sleep(Duration::from_millis(20));
        bench.worker.round(Vec::new());
    }
    assert!(bench.told().contains(&(OutcomeResult::Expired, short)));
    bench.break_it(false);
    while bench.stands().is_none() {
        thread::sleep(Duration::from_millis(20));
        bench.worker.round(Vec::new());
    }
    assert_eq!(bench.stands(), Some(long));
}

#[test]
fn what_became_an_own_address_is_not_tried_again_and_let_in() {
    let own: Prefix = "127.0.0.1".parse().unwrap();
    let now = Timestamp::now();
    let unsure = vec![Entry::new(own, None, None)];
    let mut bench = bench(Left { unsure, ..Left::default() });
    bench.fake.0.lock().unwrap().stands.insert(own, None);
    bench.worker.due(&HashSet::new(), false);
    assert_eq!(bench.told(), [(OutcomeResult::Refused, None)]);
    assert!(bench.fake.0.lock().unwrap().stands.is_empty());
    assert_eq!(bench.worker.schedule.due(now.plus(Duration::from_secs(99))), []);
}

#[test]
fn what_is_in_doubt_is_tried_at_once() {
    let until = from_now(60);
    let unsure = vec![Entry::new(scope(), until, None)];
    let mut bench = bench(Left { unsure, ..Left::default() });
    bench.worker.round(Vec::new());
    assert_eq!(bench.told(), [(OutcomeResult::Applied, until)]);
    assert_eq!(bench.stands(), Some(until));
}
