//! When what is to be done again on one backend: ends, renewals, retries. Pure: the moment is always given.

mod plan;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use psentry_records::{Common, Prefix, Timestamp};

pub(crate) use self::plan::{Plan, State};
use crate::backend::{Block, Count};

/// How long after a first failure it is tried again; the wait doubles from there.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// How long it waits at most: a minute after the trouble is over at the latest, the block stands.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The plans of one backend.
#[derive(Default)]
pub(crate) struct Schedule {
    plans: HashMap<Prefix, Plan>,
    agenda: BTreeSet<(Timestamp, Prefix)>,
    /// The latest failure.
    latest: Option<(Timestamp, String)>,
    /// How many fail, or would not go.
    failing: usize,
}

impl Schedule {
    /// When what is due, in that order.
    pub(crate) fn agenda(&self) -> impl Iterator<Item = (Timestamp, Prefix)> {
        self.agenda.iter().copied()
    }

    /// The scopes for which something is due.
    pub(crate) fn due(&self, now: Timestamp) -> Vec<Prefix> {
        self.agenda.iter().take_while(|(due, _)| *due <= now).map(|(_, scope)| *scope).collect()
    }

    /// The clock was set back to `now`: what is tried again waits no longer than it would have.
    pub(crate) fn set_back(&mut self, now: Timestamp) {
        for scope in self.scopes() {
            let late = self.get(scope).is_some_and(|plan| match &plan.state {
                State::Failing { retry, wait, .. } | State::Leaving { retry, wait } => {
                    retry.since(now) > *wait
                }
                State::Standing { .. } | State::LetIn => false,
            });
            let Some(mut plan) = Some(scope).filter(|_| late).and_then(|scope| self.remove(scope)) else {
                continue;
            };
            if let State::Failing { retry, .. } | State::Leaving { retry, .. } = &mut plan.state {
                *retry = now;
            }
            self.put(scope, plan);
        }
    }

    /// The plan for a scope.
    pub(crate) fn get(&self, scope: Prefix) -> Option<&Plan> {
        self.plans.get(&scope)
    }

    /// The plans for whatever holds `addr`, the narrowest first.
    pub(crate) fn around(&self, addr: IpAddr) -> impl Iterator<Item = (Prefix, &Plan)> {
        let longest = if addr.is_ipv4() { 32 } else { 128 };
        let scopes = (0..=longest).rev().map(move |len| Prefix::around(addr, len));
        scopes.filter_map(|scope| self.get(scope).map(|plan| (scope, plan)))
    }

    /// When a block failed last, and why.
    pub(crate) fn latest_failure(&self) -> Option<&(Timestamp, String)> {
        self.latest.as_ref()
    }

    /// How many fail, or would not go.
    pub(crate) fn failing(&self) -> usize {
        self.failing
    }

    /// Whether nothing is planned.
    pub(crate) fn is_empty(&self) -> bool {
        self.plans.is_empty()
    }

    /// All scopes with plans, in order.
    pub(crate) fn scopes(&self) -> Vec<Prefix> {
        let mut scopes: Vec<Prefix> = self.plans.keys().copied().collect();
        scopes.sort_unstable();
        scopes
    }

    /// How many blocks should stand at the moment `now`.
    pub(crate) fn standing(&self, now: Timestamp) -> Count {
        let mut count = Count::default();
        for (scope, plan) in &self.plans {
            if plan.should_stand(now) {
                let family = if scope.is_ipv4() { &mut count.ipv4 } else { &mut count.ipv6 };
                let unproven = plan.stands().is_some_and(|block| block.unproven);
                *if unproven { &mut family.unproven } else { &mut family.proven } += 1;
            }
        }
        count
    }

    /// Takes a plan off.
    pub(crate) fn remove(&mut self, scope: Prefix) -> Option<Plan> {
        let plan = self.plans.remove(&scope)?;
        self.failing -= usize::from(plan.fails());
        if let Some(due) = plan.due() {
            self.agenda.remove(&(due, scope));
        }
        Some(plan)
    }

    fn put(&mut self, scope: Prefix, plan: Plan) {
        let due = plan.due();
        self.failing += usize::from(plan.fails());
        let before = self.plans.insert(scope, plan);
        self.failing -= usize::from(before.as_ref().is_some_and(Plan::fails));
        let before = before.and_then(|plan| plan.due());
        if before == due {
            return;
        }
        if let Some(before) = before {
            self.agenda.remove(&(before, scope));
        }
        if let Some(due) = due {
            self.agenda.insert((due, scope));
        }
    }

    /// The block stands; `longest` is what the kernel can be told at once.
    pub(crate) fn stands(
        &mut self,
        scope: Prefix,
        block: Block,
        common: Option<Common>,
        now: Timestamp,
        longest: Option<Duration>,
    ) {
        // Half-way, so that a renewal that fails for days still comes in time; or as soon as the rest can be told.
        let renew = longest.zip(block.until).and_then(|(longest, until)| {
            let beyond = until.since(now).checked_sub(longest).filter(|beyond| !beyond.is_zero())?;
            Some(now.plus(beyond.min(longest / 2)))
        });
        self.put(scope, Plan { block, common, state: State::Standing { renew } });
    }

    /// The block failed; it is tried again. Whether that is worth telling: not when the same failed before.
    pub(crate) fn fails(
        &mut self,
        scope: Prefix,
        block: Block,
        common: Option<Common>,
        now: Timestamp,
        why: &str,
    ) -> bool {
        let (wait, told) = match self.get(scope).map(|plan| &plan.state) {
            Some(State::Failing { wait, why: before, .. }) => (longer(*wait), before == why),
            _ => (FIRST_WAIT, false),
        };
        self.latest = Some((now, why.to_owned()));
        let stood = self.get(scope).and_then(Plan::stands).cloned();
        let state =
            State::Failing { retry: now.plus(wait), wait, why: why.to_owned(), stood, refused: false };
        self.put(scope, Plan { block, common, state });
        !told
    }

    /// The block must not be made yet; it is tried again soon.
    pub(crate) fn waits(
        &mut self,
        scope: Prefix,
        block: Block,
        common: Option<Common>,
        now: Timestamp,
        why: &str,
    ) {
        let stood = self.get(scope).and_then(Plan::stands).cloned();
        let (retry, wait, why) = (now.plus(FIRST_WAIT), FIRST_WAIT / 2, why.to_owned());
        self.put(
            scope,
            Plan { block, common, state: State::Failing { retry, wait, why, stood, refused: true } },
        );
    }

    /// Nobody knows whether the block stands: it is tried at once.
    pub(crate) fn doubts(&mut self, scope: Prefix, block: Block, now: Timestamp) {
        let stood = self.get(scope).and_then(Plan::stands).cloned();
        let why = "an earlier run did not learn whether it stands".to_owned();
        let state = State::Failing { retry: now, wait: FIRST_WAIT / 2, why, stood, refused: false };
        self.put(scope, Plan { block, common: None, state });
    }

    /// What stood while a longer block failed is gone; the longer one is tried on.
    pub(crate) fn lapses(&mut self, scope: Prefix) {
        let Some(mut plan) = self.remove(scope) else { return };
        if let State::Failing { stood, .. } = &mut plan.state {
            *stood = None;
        }
        self.put(scope, plan);
    }

    /// Somebody let it in by hand.
    pub(crate) fn lets_in(&mut self, scope: Prefix) {
        if let Some(plan) = self.remove(scope) {
            self.put(scope, Plan { state: State::LetIn, ..plan });
        }
    }

    /// The block would not go; it is tried again.
    pub(crate) fn stays(&mut self, scope: Prefix, block: Block, common: Option<Common>, now: Timestamp) {
        let wait = match self.get(scope).map(|plan| &plan.state) {
            Some(State::Leaving { wait, .. }) => longer(*wait),
            _ => FIRST_WAIT,
        };
        self.put(scope, Plan { block, common, state: State::Leaving { retry: now.plus(wait), wait } });
    }
}

fn longer(wait: Duration) -> Duration {
    (wait * 2).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests;
