//! Changes of one family as steps in its sets.

use std::collections::{HashMap, HashSet};

use nix::errno::Errno;
use psentry_linux::Error as Below;
use psentry_records::{Prefix, Timestamp};

use super::Ipset;
use super::elements::{is_of_ports, keys, seconds, set, sets};
use super::message::Key;
use super::sets::{Doing, Done, Step};
use crate::backend::{Block, Change, Effect, Wish};
use crate::backends::xtables::Filter;
use crate::error::Error;
use crate::note;

/// The elements of single ports that stand of each scope, with their sets.
type Ports = HashMap<Prefix, Vec<(&'static str, Key)>>;

impl Ipset {
    /// Makes changes of one family, and says of each what it came to.
    pub(super) fn apply_family(
        &mut self,
        ipv4: bool,
        changes: &[&Change],
        now: Timestamp,
    ) -> Vec<Result<Effect, Error>> {
        if self.filters.of(ipv4).is_none() {
            return changes.iter().map(|_| Err(Filter::absent(ipv4))).collect();
        }
        let ports = match self.ready(ipv4, changes, now) {
            Ok(ports) => ports,
            Err(error) => return changes.iter().map(|_| Err(error.clone())).collect(),
        };
        // The kernel counts from when it is told, and what was made before that took its time.
        let steps = |change: &&Change| steps(change, &ports, Timestamp::now());
        let mut effects = self.take(&changes.iter().map(steps).collect::<Vec<_>>());
        let gone: Vec<usize> =
            (0..effects.len()).filter(|at| matches!(effects.get(*at), Some(Ok(None)))).collect();
        if !gone.is_empty() {
            // Somebody has just taken a set away.
            let made = self.set_up(ipv4).map(drop);
            for at in gone {
                let (Some(change), Some(effect)) = (changes.get(at), effects.get_mut(at)) else { continue };
                *effect = made.clone().and_then(|()| self.take(&[steps(change)]).remove(0));
            }
        }
        let still_gone = || Below::Refused { doing: "block", errno: Errno::ENOENT }.into();
        effects.into_iter().map(|effect| effect.and_then(|effect| effect.ok_or_else(still_gone))).collect()
    }

    /// Has everything that blocks need in place; what stands of single ports of whom is to be let in.
    fn ready(&mut self, ipv4: bool, changes: &[&Change], now: Timestamp) -> Result<Ports, Error> {
        if changes.iter().any(|change| change.block().is_some_and(|block| block.unproven)) {
            self.expect_unproven(ipv4);
        }
        // A set that no rule matches blocks nobody: whoever flushed INPUT took the rule away.
        if changes.iter().any(|change| change.block().is_some()) && !self.stood(ipv4)? {
            self.set_up(ipv4)?;
        }
        let released: HashSet<Prefix> =
            changes.iter().filter(|change| change.block().is_none()).map(|change| change.scope).collect();
        let mut ports = Ports::new();
        if !released.is_empty() {
            for set in sets(ipv4).into_iter().filter(|set| is_of_ports(set)) {
                for element in self.sets.elements(set, now)?.unwrap_or_default() {
                    if released.contains(&element.key.scope) {
                        ports.entry(element.key.scope).or_default().push((set, element.key));
                    }
                }
            }
        }
        Ok(ports)
    }

    /// Takes the steps of changes, all together; `None`: a set was not there.
    fn take(&mut self, steps: &[Vec<Step>]) -> Vec<Result<Option<Effect>, Error>> {
        let all: Vec<&Step> = steps.iter().flatten().collect();
        let mut done = self.sets.take(&all).into_iter();
        steps.iter().map(|steps| effect(steps, done.by_ref().take(steps.len()).collect())).collect()
    }
}

/// The steps that make a change. Of whom only ports are to be shut, the whole is not, once they are; nor is shut what is not
/// proven in another way, once it is. What stands of single ports elsewhere ends by itself, and before the block does.
fn steps(change: &Change, ports: &Ports, now: Timestamp) -> Vec<Step> {
    let scope = change.scope;
    let out = |set, key| Step { set, doing: Doing::Delete(key) };
    let whole = [false, true].map(|unproven| set(scope.is_ipv4(), false, unproven));
    let whole = |but: Option<&'static str>| {
        let others = whole.into_iter().filter(move |set| Some(*set) != but);
        others.map(move |set| out(set, Key { scope, port: None }))
    };
    match &change.wish {
        // What ended while it was prepared is not made: a set counts whole seconds, and one is the least.
        Wish::Block(block) if block.is_over(now) => {
            let (set, keys) = keys(scope, block);
            keys.into_iter().map(|key| out(set, key)).chain(whole(Some(set))).collect()
        }
        Wish::Block(block) => {
            let mut steps = added(scope, block, now);
            let into = steps.first().map(|step| step.set);
            steps.extend(whole(into));
            steps
        }
        Wish::Release(_) => {
            let ports = ports.get(&scope).into_iter().flatten();
            whole(None).chain(ports.map(|(set, key)| out(set, *key))).collect()
        }
    }
}

fn added(scope: Prefix, block: &Block, now: Timestamp) -> Vec<Step> {
    let (set, keys) = keys(scope, block);
    let (seconds, note) = (seconds(block, now), note::write(block));
    keys.into_iter().map(|key| Step { set, doing: Doing::Add(key, seconds, note.clone()) }).collect()
}

/// What a change came to by what its steps did.
fn effect(steps: &[Step], done: Vec<Result<Done, Error>>) -> Result<Option<Effect>, Error> {
    let mut effect = Effect::WasNotThere;
    for (step, done) in steps.iter().zip(done) {
        match (&step.doing, done?) {
            (_, Done::Well) => effect = Effect::Done,
            (Doing::Add(..), Done::NoSet) => return Ok(None),
            (Doing::Delete(_), Done::NoSet) | (_, Done::WasNotThere) => {}
        }
    }
    Ok(Some(effect))
}
