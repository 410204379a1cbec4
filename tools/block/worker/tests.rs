//! The worker with a backend that does as it is told, and only that.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::Mutex;

use psentry_records::{Action, Common, OutcomeResult};

use super::*;
use crate::backend::{Effect, Noticed};
use crate::inbox::Found;

/// Nobody logs in at a port on which nothing listens.
fn guard() -> Guard {
    Guard::new(vec![1..=1], Duration::from_secs(180), crate::allow::Allow::default())
}

/// What a backend holds, and whether it fails.
#[derive(Default)]
struct State {
    stands: HashMap<Prefix, Option<Timestamp>>,
    /// Of whom only ports are shut.
    ports: HashMap<Prefix, Vec<u16>>,
    broken: bool,
    /// What others do while the backend works.
    noticed: Noticed,
    /// What stands cannot be asked.
    mute: bool,
    /// What it stands in is damaged, how often that was looked at, and whether there was something to mend.
    garbled: bool,
    looked: u32,
    mends: bool,
    ends_by_itself: bool,
    changes: Vec<Change>,
    /// What happens while it blocks.
    meanwhile: Option<Box<dyn FnMut() + Send>>,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<State>>);

impl Backend for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn prepare(&mut self) -> Result<Vec<Entry>, Error> {
        self.list()
    }

    fn apply(&mut self, changes: &[Change], _: Timestamp) -> Vec<Result<Effect, Error>> {
        let mut state = self.0.lock().unwrap();
        let change = |change: &Change| {
            state.changes.push(change.clone());
            match &change.wish {
                Wish::Block(_) if state.broken => Err(Error::NoEffect("broken".to_owned())),
                Wish::Block(block) => {
                    if let Some(meanwhile) = &mut state.meanwhile {
                        meanwhile();
                    }
                    state.stands.insert(change.scope, block.until);
                    state.ports.insert(change.scope, block.ports.clone());
                    Ok(Effect::Done)
                }
                Wish::Release(_) => {
                    let was = state.stands.remove(&change.scope);
                    Ok(was.map_or(Effect::WasNotThere, |_| Effect::Done))
                }
            }
        };
        changes.iter().map(change).collect()
    }

    fn list(&mut self) -> Result<Vec<Entry>, Error> {
        let mut state = self.0.lock().unwrap();
        state.looked += 1;
        if state.garbled {
            return Err(Error::Damaged { path: "/x".into(), line: 1, what: "it has no end" });
        }
        if state.mute {
            return Err(Error::NoEffect("mute".to_owned()));
        }
        let ports = |scope: &Prefix| state.ports.get(scope).cloned().unwrap_or_default();
        let entry = |(scope, until): (&Prefix, &Option<Timestamp>)| Entry {
            ports: ports(scope),
            ..Entry::new(*scope, *until, None)
        };
        Ok(state.stands.iter().map(entry).collect())
    }

    fn noticed(&mut self) -> Result<Noticed, Error> {
        Ok(std::mem::take(&mut self.0.lock().unwrap().noticed))
    }

    fn mend(&mut self, _: &[Prefix]) -> Result<bool, Error> {
        Ok(std::mem::take(&mut self.0.lock().unwrap().mends))
    }

    fn remove(&mut self) -> Result<Vec<Entry>, Error> {
        Ok(Vec::new())
    }

    fn ends_by_itself(&self) -> bool {
        self.0.lock().unwrap().ends_by_itself
    }

    fn at_once(&self) -> usize {
        1
    }
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
        let well = if already.is_some() { OutcomeResult::Already } else { OutcomeResult::Applied };
        let ask = Ask { common: Common::at(Timestamp::now()), action: Action::Block, well };
        self.worker.inbox.put(scope(), Wish::Block(block), already, ask);
        let (arrived, _) = self.worker.inbox.take(1, Some(Timestamp::now()), None, None);
        self.worker.round(arrived);
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

mod healing;
mod opening;
mod ports;
mod telling;
