//! A backend that does as it is told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use psentry_records::{Prefix, Timestamp};

use crate::backend::{Backend, Block, Change, Count, Effect, Entry, Noticed, Wish};
use crate::error::Error;

/// What a backend holds, and whether it fails.
#[derive(Default)]
pub(super) struct State {
    pub(super) stands: HashMap<Prefix, Option<Timestamp>>,
    /// Of whom only ports are shut.
    pub(super) ports: HashMap<Prefix, Vec<u16>>,
    pub(super) broken: bool,
    /// What others do while the backend works.
    pub(super) noticed: Noticed,
    /// Nobody tells of changes, so that it is looked, whenever it may be.
    pub(super) looks: bool,
    /// What stands cannot be asked.
    pub(super) mute: bool,
    /// What it stands in is damaged, how often that was looked at, and whether there was something to mend.
    pub(super) garbled: bool,
    pub(super) looked: u32,
    pub(super) mends: bool,
    pub(super) ends_by_itself: bool,
    pub(super) changes: Vec<Change>,
    /// What happens while it blocks.
    pub(super) meanwhile: Option<Box<dyn FnMut() + Send>>,
    /// How many changes it has room for, if each takes until it is let go on; and those under way.
    pub(super) slow: Option<usize>,
    pub(super) under_way: Vec<Change>,
    pub(super) let_go: Vec<Prefix>,
}

#[derive(Clone, Default)]
pub(super) struct Fake(pub(super) Arc<Mutex<State>>);

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

    fn begin(&mut self, changes: &[Change], now: Timestamp) -> Vec<Option<Result<Effect, Error>>> {
        if self.0.lock().unwrap().slow.is_none() {
            return self.apply(changes, now).into_iter().map(Some).collect();
        }
        self.0.lock().unwrap().under_way.extend(changes.iter().cloned());
        changes.iter().map(|_| None).collect()
    }

    fn done(&mut self) -> Vec<(Change, Result<Effect, Error>)> {
        let mut state = self.0.lock().unwrap();
        let let_go = std::mem::take(&mut state.let_go);
        let over: Vec<Change> = state.under_way.extract_if(.., |c| let_go.contains(&c.scope)).collect();
        drop(state);
        let results = self.apply(&over, Timestamp::now());
        over.into_iter().zip(results).collect()
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

    fn look_every(&self) -> Option<Duration> {
        self.0.lock().unwrap().looks.then_some(Duration::ZERO)
    }

    fn look(&mut self, should: Count) -> Result<Noticed, Error> {
        let missing = self.0.lock().unwrap().stands.len() < should.ipv4.all() + should.ipv6.all();
        let edited = missing.then(|| "somebody".to_owned());
        Ok(Noticed { edited, ..Noticed::default() })
    }

    fn mend(&mut self, _: &[(Prefix, &Block)]) -> Result<bool, Error> {
        Ok(std::mem::take(&mut self.0.lock().unwrap().mends))
    }

    fn remove(&mut self) -> Result<Vec<Entry>, Error> {
        Ok(Vec::new())
    }

    fn ends_by_itself(&self) -> bool {
        self.0.lock().unwrap().ends_by_itself
    }

    fn at_once(&self) -> usize {
        let state = self.0.lock().unwrap();
        state.slow.unwrap_or(1).saturating_sub(state.under_way.len())
    }
}
