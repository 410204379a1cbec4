//! When what is to be done again on one backend: ends, renewals, retries. Pure: the moment is always given.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use psentry_records::{Common, Prefix, Timestamp};

use crate::backend::Block;

/// How long after a first failure it is tried again; the wait doubles from there.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// How long it waits at most: a minute after the trouble is over at the latest, the block stands.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A block that the backend is to hold, and what is next for it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) block: Block,
    /// Source and port of the verdict, for outcomes; `None`: adopted.
    pub(crate) common: Option<Common>,
    pub(crate) state: State,
}

/// How a block stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum State {
    /// It stands; the kernel has to be told again at that moment, if at all.
    Standing { renew: Option<Timestamp> },
    /// It failed, and is tried again; meanwhile an older block may still stand.
    Failing { retry: Timestamp, wait: Duration, why: String, stood: Option<Block> },
    /// It is to go, and would not.
    Leaving { retry: Timestamp, wait: Duration },
}

/// The plans of one backend.
#[derive(Default)]
pub(crate) struct Schedule {
    plans: HashMap<Prefix, Plan>,
    agenda: BTreeSet<(Timestamp, Prefix)>,
}

impl Plan {
    /// The next moment at which something is to be done.
    fn due(&self) -> Option<Timestamp> {
        let end = self.block.until;
        match &self.state {
            State::Standing { renew } => [end, *renew].into_iter().flatten().min(),
            State::Failing { retry, stood, .. } => {
                let lapse = stood.as_ref().and_then(|stood| stood.until);
                [Some(*retry), end, lapse].into_iter().flatten().min()
            }
            State::Leaving { retry, .. } => Some(*retry),
        }
    }

    /// Whether its time is over.
    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        self.block.is_over(now)
    }

    /// The block that stands, as far as is known: while an extension fails, the older one.
    pub(crate) fn stands(&self) -> Option<&Block> {
        match &self.state {
            State::Standing { .. } | State::Leaving { .. } => Some(&self.block),
            State::Failing { stood, .. } => stood.as_ref(),
        }
    }

    /// Whether what is due at the moment `now` is an end.
    pub(crate) fn ends(&self, now: Timestamp) -> bool {
        let over = |block: &Block| block.is_over(now);
        matches!(self.state, State::Leaving { .. }) || over(&self.block) || self.stands().is_some_and(over)
    }
}

impl Schedule {
    /// When something is due next.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.agenda.first().map(|(due, _)| *due)
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
                State::Standing { .. } => false,
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

    /// All scopes with plans, in order.
    pub(crate) fn scopes(&self) -> Vec<Prefix> {
        let mut scopes: Vec<Prefix> = self.plans.keys().copied().collect();
        scopes.sort_unstable();
        scopes
    }

    /// Takes a plan off.
    pub(crate) fn remove(&mut self, scope: Prefix) -> Option<Plan> {
        let plan = self.plans.remove(&scope)?;
        if let Some(due) = plan.due() {
            self.agenda.remove(&(due, scope));
        }
        Some(plan)
    }

    fn put(&mut self, scope: Prefix, plan: Plan) {
        self.remove(scope);
        if let Some(due) = plan.due() {
            self.agenda.insert((due, scope));
        }
        self.plans.insert(scope, plan);
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
        let stood = self.get(scope).and_then(Plan::stands).cloned();
        let state = State::Failing { retry: now.plus(wait), wait, why: why.to_owned(), stood };
        self.put(scope, Plan { block, common, state });
        !told
    }

    /// Nobody knows whether the block stands: it is tried at once.
    pub(crate) fn doubts(&mut self, scope: Prefix, block: Block, now: Timestamp) {
        let stood = self.get(scope).and_then(Plan::stands).cloned();
        let why = "an earlier run did not learn whether it stands".to_owned();
        let state = State::Failing { retry: now, wait: FIRST_WAIT / 2, why, stood };
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
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(1_000_000 + seconds).unwrap()
    }

    fn block(until: Option<u64>) -> Block {
        Block { until: until.map(at), ..Block::default() }
    }

    fn scope() -> Prefix {
        "192.0.2.7".parse().unwrap()
    }

    #[test]
    fn a_failure_is_tried_again_ever_later_until_its_time_is_over() {
        let mut schedule = Schedule::default();
        let mut now = 0;
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            schedule.fails(scope(), block(Some(1000)), None, at(now), "no");
            assert_eq!(schedule.next(), Some(at(now + wait)));
            now += wait;
            assert_eq!(schedule.due(at(now)), [scope()]);
        }
        schedule.fails(scope(), block(Some(now + 5)), None, at(now), "no");
        assert_eq!(schedule.next(), Some(at(now + 5)));
        assert!(schedule.get(scope()).unwrap().is_over(at(now + 5)));
    }

    #[test]
    fn the_same_failure_is_told_once() {
        let mut schedule = Schedule::default();
        assert!(schedule.fails(scope(), block(None), None, at(0), "no"));
        assert!(!schedule.fails(scope(), block(None), None, at(1), "no"));
        assert!(schedule.fails(scope(), block(None), None, at(3), "never"));
    }

    #[test]
    fn a_clock_that_is_set_back_holds_up_no_retry() {
        let mut schedule = Schedule::default();
        schedule.fails(scope(), block(None), None, at(5000), "no");
        schedule.set_back(at(4999));
        assert_eq!(schedule.next(), Some(at(4999)));
        schedule.fails(scope(), block(None), None, at(5000), "no");
        schedule.set_back(at(5001));
        assert_eq!(schedule.next(), Some(at(5002)));
    }

    #[test]
    fn what_is_longer_than_the_kernel_can_be_told_is_renewed_half_way() {
        let mut schedule = Schedule::default();
        let longest = Some(Duration::from_secs(100));
        schedule.stands(scope(), block(Some(250)), None, at(0), longest);
        assert_eq!(schedule.next(), Some(at(50)));
        schedule.stands(scope(), block(Some(250)), None, at(150), longest);
        assert_eq!(schedule.next(), Some(at(250)));
        schedule.stands(scope(), block(None), None, at(0), longest);
        assert_eq!(schedule.next(), None);
    }

    #[test]
    fn what_stood_before_an_extension_failed_is_not_forgotten() {
        let mut schedule = Schedule::default();
        schedule.stands(scope(), block(Some(10)), None, at(0), None);
        for now in [8, 9] {
            schedule.fails(scope(), block(Some(100)), None, at(now), "no");
        }
        assert_eq!(schedule.get(scope()).unwrap().stands(), Some(&block(Some(10))));
        assert_eq!(schedule.next(), Some(at(10)));
        assert!(schedule.get(scope()).unwrap().ends(at(10)));
        schedule.lapses(scope());
        assert_eq!((schedule.get(scope()).unwrap().stands(), schedule.next()), (None, Some(at(11))));
        assert!(!schedule.get(scope()).unwrap().ends(at(99)));
    }

    #[test]
    fn the_last_renewal_comes_as_soon_as_the_rest_can_be_told() {
        let mut schedule = Schedule::default();
        schedule.stands(scope(), block(Some(110)), None, at(0), Some(Duration::from_secs(100)));
        assert_eq!(schedule.next(), Some(at(10)));
        schedule.stands(scope(), block(Some(110)), None, at(10), Some(Duration::from_secs(100)));
        assert_eq!(schedule.next(), Some(at(110)));
    }

    #[test]
    fn a_plan_that_is_replaced_leaves_nothing_on_the_agenda() {
        let mut schedule = Schedule::default();
        schedule.stands(scope(), block(Some(10)), None, at(0), None);
        schedule.stands(scope(), block(Some(20)), None, at(0), None);
        schedule.stays(scope(), block(Some(20)), None, at(20));
        assert_eq!((schedule.due(at(20)), schedule.next()), (vec![], Some(at(21))));
        schedule.remove(scope());
        assert_eq!((schedule.next(), schedule.scopes()), (None, vec![]));
    }
}
