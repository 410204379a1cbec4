//! What others changed is put right: what they deleted or changed is put back, what they added is deleted; what it was, and by
//! whom, is reported once it is done. That is done at once, but for a burst of changes only every tenth of a second, and whoever
//! changes it again and again is reported and not fought ([`RepairRate`]).

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use psentry_records::{Action, OutcomeResult, Prefix, Timestamp};
use psentry_stage::counted;

use super::Engine;
use super::backend_state::{Ask, BackendState};
use crate::backend::Drift;
use crate::block::{Block, Entry, SLACK};
use crate::desired::Desired;
use crate::reconcile::{reconcile, wanted_there};

/// Up to how many blocks that are put back have an outcome each.
const NAMED: usize = 20;
/// How many that are deleted are named in the sentence about them.
const SHOWN: usize = 3;

/// The pause between two looks. A reload of the firewall is a hundred changes within less.
const PAUSE: Duration = Duration::from_millis(100);

/// The pause before what could not be looked at is looked at again.
pub(super) const UNREAD: Duration = Duration::from_secs(1);

/// So many repairs within a minute are a fight.
const MOST: usize = 10;

/// The minute in which repairs are counted, and which has to be quiet until a fight is over.
const MINUTE: Duration = Duration::from_secs(60);

/// How long a repair waits in a fight; the wait doubles with each.
const FIRST_WAIT: Duration = Duration::from_secs(10);

/// How long it waits at most.
const LONGEST_WAIT: Duration = MINUTE;

/// What was done to a block that nobody asked psentry-block for.
const ADDED: &str = "added";

/// Who did what nobody is known to have done.
const SOMEBODY: &str = "somebody";

/// What others changed, until it is put right.
pub(super) struct Repair {
    /// That it was reported; `None`: it was only found.
    drift: Option<Drift>,
    began: Instant,
    /// What blocks are in was made again.
    made: bool,
    /// What was done: what was deleted or changed is put back, and what was added is deleted.
    changes: BTreeMap<Prefix, &'static str>,
    /// What of that is not put right yet.
    waits: HashSet<Prefix>,
}

/// When to look, and to repair.
#[derive(Default)]
pub(super) struct RepairRate {
    /// The latest repairs, at most `MOST` of them.
    repairs: VecDeque<Instant>,
    /// The wait between repairs while there is a fight.
    wait: Option<Duration>,
    /// Before that moment nothing is looked at.
    not_before: Option<Instant>,
    /// When somebody last changed something, or it was repaired.
    unquiet: Option<Instant>,
}

impl RepairRate {
    /// Somebody changed something.
    pub(super) fn disturbed(&mut self, now: Instant) {
        if self.unquiet.is_some_and(|last| now.saturating_duration_since(last) >= MINUTE) {
            *self = RepairRate::default();
        }
        self.unquiet = Some(now);
    }

    /// When it may be looked at next; `None`: at once.
    pub(super) fn not_before(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|moment| *moment > now)
    }

    /// It was looked at, and nothing was missing; or it could not be looked at. It is looked at again after a pause.
    pub(super) fn looked(&mut self, now: Instant, pause: Duration) {
        self.not_before = self.not_before.max(Some(now + pause));
    }

    /// Something was put back, or could not be. If that begins a fight, how long the next repair waits.
    pub(super) fn repaired(&mut self, now: Instant) -> Option<Duration> {
        self.unquiet = Some(now);
        self.repairs.push_back(now);
        if self.repairs.len() > MOST {
            self.repairs.pop_front();
        }
        let lately =
            self.repairs.iter().filter(|then| now.saturating_duration_since(**then) < MINUTE).count();
        let before = self.wait;
        self.wait = match before {
            Some(wait) => Some((wait * 2).min(LONGEST_WAIT)),
            None => (lately >= MOST).then_some(FIRST_WAIT),
        };
        self.not_before = Some(now + self.wait.unwrap_or(PAUSE));
        self.wait.filter(|_| before.is_none())
    }
}

impl Repair {
    /// Of what was listed since `began`, after a `drift` that was reported, if it was; `made`: what blocks are in was made.
    pub(super) fn new(drift: Option<Drift>, began: Instant, made: bool) -> Self {
        Repair { drift, began, made, changes: BTreeMap::new(), waits: HashSet::new() }
    }

    /// Takes in how what is there on a backend differs from what was there before.
    fn compare<'a>(
        &mut self,
        (before, is): (&HashMap<Prefix, Entry>, &HashMap<Prefix, Entry>),
        wanted: impl Fn(Prefix) -> Option<&'a Block>,
        now: Timestamp,
    ) {
        let fits = |there: &HashMap<Prefix, Entry>, scope: &Prefix, block: &Block| {
            there.get(scope).is_some_and(|entry| entry.is(block))
        };
        // What is about to end has ended in the kernel perhaps, and may be there a moment longer.
        let ends = |until: Option<Timestamp>| until.is_some_and(|until| until <= now.plus(SLACK));
        for scope in before.keys() {
            let Some(block) = wanted(*scope).filter(|block| !ends(block.until)) else { continue };
            if fits(before, scope, block) && !fits(is, scope, block) {
                self.changes.insert(*scope, if is.contains_key(scope) { "changed" } else { "deleted" });
                self.waits.insert(*scope);
            }
        }
        for (scope, entry) in is {
            if !before.contains_key(scope) && wanted(*scope).is_none() && !ends(entry.until) {
                self.changes.insert(*scope, ADDED);
                self.waits.insert(*scope);
            }
        }
    }

    /// It does not wait for a scope any more; whether it did.
    pub(super) fn remove_waiting(&mut self, scope: Prefix) -> bool {
        self.waits.remove(&scope)
    }

    /// Who did it, if anything reported it.
    fn by(&self) -> Option<&str> {
        self.drift.as_ref().map(|drift| drift.who.as_deref().unwrap_or(SOMEBODY))
    }

    /// What was done to what is put back, in a word or three.
    fn what_was_done(&self) -> &'static str {
        let mut each = self.changes.values().filter(|done| **done != ADDED);
        match each.next() {
            Some(first) if !self.made && each.all(|other| other == first) => first,
            _ => "deleted or changed",
        }
    }
}

impl Engine {
    /// A backend was listed again: what differs from what is wanted is put right if it `repairs`, or as soon as it may.
    pub(super) fn put_right(
        &mut self,
        index: usize,
        before: &HashMap<Prefix, Entry>,
        repairs: bool,
        repair: Repair,
    ) {
        let now = self.clock.now();
        let Some(state) = self.backends.get_mut(index) else { return };
        let drift = repair.drift.clone();
        let mut repair = match state.sync.repair.take() {
            Some(earlier) => {
                Repair { made: earlier.made || repair.made, drift: earlier.drift.or(repair.drift), ..earlier }
            }
            None => repair,
        };
        let (no_drift, waited) = (state.sync.no_drift, repair.waits.len());
        // A list that was begun before that is followed by another one.
        state.sync.no_drift &= state.sync.wanted;
        if !no_drift {
            let wanted = |scope| wanted_there(scope, &self.desired, &state.caps, now);
            repair.compare((before, &state.actual.entries), wanted, now);
        }
        let differing: Vec<Prefix> = differing(state, &self.desired, now).collect();
        if !repairs {
            // Rules that are missing or come too late are no blocks that differ: whatever was reported is looked at again.
            state.sync.drifted = drift.or_else(|| (!differing.is_empty()).then(Drift::default));
            state.sync.repair = Some(repair).filter(|repair| !repair.waits.is_empty());
            return;
        }
        // What somebody changes while it is put right is repaired once more: else a repair of many blocks would never end, nor count.
        let fight = (waited > 0 && repair.waits.len() > waited)
            .then(|| state.sync.rate.repaired(Instant::now()))
            .flatten();
        differing.into_iter().chain(repair.waits.iter().copied()).for_each(|scope| state.queue.push(scope));
        if repair.made || !repair.waits.is_empty() {
            state.sync.repair = Some(repair);
            self.repaired_if_done(index);
        } else {
            state.sync.rate.looked(Instant::now(), PAUSE);
        }
        self.report_fight(index, fight);
    }

    /// Says that somebody changes what is put right again and again, if that begins now.
    fn report_fight(&self, index: usize, fight: Option<Duration>) {
        let (Some(state), Some(wait)) = (self.backends.get(index), fight) else { return };
        self.outcomes.report(&format!(
            "somebody changes psentry's blocks on {} again and again; from now on this is repaired only every {} s, and less \
             often, until a minute passes without a change: find out what does it",
            state.caps.name,
            wait.as_secs()
        ));
    }

    /// Reports what was put right, once the last of it is.
    pub(super) fn repaired_if_done(&mut self, index: usize) {
        let Some(state) = self.backends.get_mut(index) else { return };
        let Some(repair) = state.sync.repair.take_if(|repair| repair.waits.is_empty()) else { return };
        let is_there = |scope: &Prefix| state.actual.entries.contains_key(scope);
        let (mut gone, mut back) = (Vec::new(), Vec::new());
        for (scope, done) in &repair.changes {
            match (*done == ADDED, is_there(scope)) {
                (true, false) => gone.push(*scope),
                (false, true) => back.push(*scope),
                _ => {}
            }
        }
        let (name, took) = (state.caps.name, repair.began.elapsed().as_millis());
        let fight = state.sync.rate.repaired(Instant::now());
        self.outcomes.counters.repairs += 1;
        let says = |done: &str, what: String| match repair.by() {
            Some(by) => format!("{by} {done} {what}"),
            None => format!("{what} had been {done}"),
        };
        let mut repaired = Vec::new();
        if repair.made || !back.is_empty() {
            let said = says(repair.what_was_done(), what(back.len(), repair.made));
            self.outcomes.report(&format!(
                "{name}: {said}; put back within {took} ms; to release somebody use 'psentry-block unblock CIDR'"
            ));
            repaired.push(said);
        }
        if !gone.is_empty() {
            let said = says(ADDED, list(&gone));
            self.outcomes.report(&format!(
                "{name}: {said}; deleted within {took} ms, because nobody asked psentry-block for it; to block somebody use \
                 'psentry-block block CIDR'"
            ));
            repaired.push(said);
        }
        if let Some(state) = self.backends.get_mut(index).filter(|_| !repaired.is_empty()) {
            state.repaired = Some((self.clock.wall(self.clock.now()), repaired.join("; ")));
        }
        self.report_fight(index, fight);
        for scope in back.iter().filter(|_| back.len() <= NAMED) {
            let Some(block) = self.desired.get(*scope).cloned() else { continue };
            let done = repair.changes.get(scope).copied().unwrap_or_default();
            let by = repair.by().unwrap_or(SOMEBODY);
            let why = format!(
                "put back, because {by} had {done} it; to release it use 'psentry-block unblock {scope}'"
            );
            let ask = Ask { remark: Some(why), ..Ask::unasked(Action::Block, &block) };
            self.answer(index, *scope, &ask, OutcomeResult::Applied, block.until, None);
        }
    }
}

/// The scopes of which something else is there than is wanted, and about which nothing is going to be done yet.
fn differing(state: &BackendState, desired: &Desired, now: Timestamp) -> impl Iterator<Item = Prefix> {
    let due = reconcile(desired, &state.actual, &state.caps, now).into_iter();
    due.filter(|scope| state.backoff.get(*scope).is_none() && !state.queue.contains(*scope))
}

fn what(blocks: usize, made: bool) -> String {
    let count = counted(blocks as u64, "block", "blocks");
    match (blocks, made) {
        (0, _) => "the ruleset of psentry".to_owned(),
        (_, true) => format!("the ruleset of psentry and {count}"),
        (_, false) => count,
    }
}

fn list(scopes: &[Prefix]) -> String {
    let shown: Vec<String> = scopes.iter().take(SHOWN).map(Prefix::to_string).collect();
    let more = scopes.len().saturating_sub(SHOWN);
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Somebody who takes everything away right after each repair: the seconds at which it is repaired.
    fn fight(rate: &mut RepairRate, start: Instant, until: Duration) -> (Vec<Duration>, Vec<Duration>) {
        let (mut repairs, mut said) = (Vec::new(), Vec::new());
        let mut now = start;
        while now < start + until {
            rate.disturbed(now);
            now = rate.not_before(now).unwrap_or(now);
            repairs.push(now - start);
            if let Some(wait) = rate.repaired(now) {
                said.push(wait);
            }
            now += Duration::from_millis(50);
        }
        (repairs, said)
    }

    #[test]
    fn the_first_change_is_repaired_at_once_and_a_burst_every_tenth_of_a_second() {
        let (mut rate, start) = (RepairRate::default(), Instant::now());
        rate.disturbed(start);
        assert_eq!(rate.not_before(start), None);
        assert_eq!(rate.repaired(start), None);
        rate.disturbed(start);
        assert_eq!(rate.not_before(start), Some(start + PAUSE));
        assert_eq!(rate.not_before(start + PAUSE), None);
        rate.looked(start + PAUSE, PAUSE);
        assert_eq!(rate.not_before(start + PAUSE), Some(start + 2 * PAUSE));
    }

    #[test]
    fn looks_that_find_nothing_are_no_fight() {
        let (mut rate, start) = (RepairRate::default(), Instant::now());
        let mut now = start;
        for _ in 0..1000 {
            rate.disturbed(now);
            now = rate.not_before(now).unwrap_or(now);
            rate.looked(now, PAUSE);
        }
        assert_eq!(rate.not_before(now), Some(now + PAUSE));
    }

    #[test]
    fn a_fight_is_reported_once_and_slows_down_to_once_a_minute() {
        let (mut rate, start) = (RepairRate::default(), Instant::now());
        let (repairs, said) = fight(&mut rate, start, Duration::from_secs(600));
        assert_eq!(said, [FIRST_WAIT]);
        assert!(repairs[MOST - 1] < Duration::from_secs(2), "{repairs:?}");
        let waits: Vec<u64> =
            repairs.windows(2).skip(MOST - 1).map(|two| (two[1] - two[0]).as_secs()).collect();
        assert_eq!(waits[..5], [10, 20, 40, 60, 60]);
        assert!(waits[5..].iter().all(|wait| *wait == 60));
    }

    #[test]
    fn after_a_quiet_minute_a_fight_is_over() {
        let (mut rate, start) = (RepairRate::default(), Instant::now());
        let (repairs, _) = fight(&mut rate, start, Duration::from_secs(100));
        let last = start + *repairs.last().unwrap();
        let later = last + Duration::from_millis(50) + MINUTE;
        rate.disturbed(later);
        assert_eq!(rate.not_before(later), None);
        assert_eq!(rate.repaired(later), None);
    }

    #[test]
    fn ten_repairs_in_a_long_time_are_no_fight() {
        let (mut rate, start) = (RepairRate::default(), Instant::now());
        for n in 0..100 {
            let now = start + n * Duration::from_secs(7);
            rate.disturbed(now);
            assert_eq!((rate.not_before(now), rate.repaired(now)), (None, None));
        }
    }
}
