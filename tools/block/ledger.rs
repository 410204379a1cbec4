//! What is wanted: which scope is to be shut out until when. Decides what a verdict changes, knows no backend,
//! does nothing, and never asks the clock.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use psentry_records::{Action, Prefix, Timestamp, Verdict};

use crate::backend::{Block, told};
use crate::extent::Ports;
use crate::ports::probed;

/// The blocks that are wanted, at most so many.
pub struct Ledger {
    most: usize,
    ports: Ports,
    blocks: HashMap<Prefix, Block>,
    /// Those that end, in the order in which they do.
    ends: BTreeSet<(Timestamp, Prefix)>,
    /// How many are not proven. They take half of the room at most, so that whoever forges leaves the rest of it.
    unproven: usize,
}

/// What a verdict changes.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Nothing: it only watches.
    Nothing,
    /// Nothing: its time is over.
    Expired {
        /// Since when.
        until: Timestamp,
    },
    /// It must not be done; why, as a sentence.
    Refused(String),
    /// There is no room for it; that, as a sentence.
    Full(String),
    /// The scope is to be shut out like this from now on.
    Block(Block),
    /// It is shut out, and each of that and the verdict shuts what the other does not: it is to be both from now on.
    Widened {
        /// As it is to stand.
        both: Block,
        /// What the verdict alone would make, should somebody have let it in meanwhile.
        asked: Block,
    },
    /// It is to stay shut out, which lasts at least as long as the verdict.
    Already {
        /// As it should stand.
        stands: Block,
        /// What the verdict alone would make, should somebody have let it in meanwhile.
        asked: Block,
    },
    /// It is to be let in.
    Release,
}

impl Ledger {
    /// An empty one that holds at most `most` blocks.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Ledger { most, ports: Ports::All, blocks: HashMap::new(), ends: BTreeSet::new(), unproven: 0 }
    }

    /// The same, shutting these ports.
    #[must_use]
    pub fn shutting(self, ports: Ports) -> Self {
        Ledger { ports, ..self }
    }

    /// How many blocks are wanted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Takes over what an earlier run left; of several for one scope what covers all.
    pub fn adopt(&mut self, scope: Prefix, block: &Block) {
        match self.blocks.get(&scope) {
            Some(stands) if stands.covers(block) => {}
            Some(stands) => self.put(scope, stands.joined(block)),
            None => self.put(scope, block.clone()),
        }
    }

    /// Takes over what is remembered of an earlier run, unless there are too many; whether it has.
    pub fn recall(&mut self, scope: Prefix, block: &Block) -> bool {
        let room = self.blocks.len() < self.most || self.blocks.contains_key(&scope);
        if room {
            self.adopt(scope, block);
        }
        room
    }

    /// What `verdict` changes at the moment `now`; `refusal` says whom not to block. A time in the future counts
    /// as now: no verdict lasts longer than its duration.
    pub fn decide(
        &mut self,
        verdict: &Verdict,
        now: Timestamp,
        refusal: impl FnOnce(Prefix) -> Option<String>,
    ) -> Decision {
        self.expire(now);
        let scope = verdict.body.scope;
        match verdict.body.action {
            Action::Watch => return Decision::Nothing,
            Action::Unblock => {
                self.drop(scope);
                return Decision::Release;
            }
            Action::Block => {}
        }
        let from = verdict.common.timestamp.min(now);
        let until = verdict.body.duration.map(|seconds| from.plus(Duration::from_secs(seconds)));
        if let Some(until) = until.filter(|until| *until <= now) {
            return Decision::Expired { until };
        }
        if let Some(why) = refusal(scope) {
            return Decision::Refused(why);
        }
        let block = Block {
            until,
            rule: verdict.body.rule.as_deref().and_then(told),
            port: verdict.common.dest_port.or_else(|| verdict.body.ports.first().copied()),
            proto: verdict.common.proto,
            since: Some(from),
            reason: verdict.body.reason.as_deref().and_then(told),
            offence: verdict.body.offence,
            unproven: verdict.body.handshake == Some(false),
            ports: match self.ports {
                Ports::All => Vec::new(),
                Ports::Probed => probed(verdict.body.ports.iter().copied().chain(verdict.common.dest_port)),
            },
        };
        match self.blocks.get(&scope) {
            Some(stands) if stands.covers(&block) => {
                return Decision::Already { stands: stands.clone(), asked: block };
            }
            Some(stands) if !block.covers(stands) => {
                let both = stands.joined(&block);
                self.put(scope, both.clone());
                return Decision::Widened { both, asked: block };
            }
            None if self.blocks.len() >= self.most => {
                let why = format!(
                    "{scope} would be one block more than --max-blocks {} allows; raise it, or let some end",
                    self.most
                );
                return Decision::Full(why);
            }
            None if block.unproven && self.unproven >= self.most.div_ceil(2) => {
                let why = format!(
                    "no handshake proves {scope}, and such blocks take no more than half of --max-blocks {}",
                    self.most
                );
                return Decision::Full(why);
            }
            _ => {}
        }
        self.put(scope, block.clone());
        Decision::Block(block)
    }

    /// Somebody let `scope` in behind our back, and now it is shut out as `is`; unless it was decided anew since `was`.
    pub fn correct(&mut self, scope: Prefix, was: &Block, is: Block) {
        if self.blocks.get(&scope) == Some(was) {
            self.put(scope, is);
        }
    }

    /// On one of several backends `scope` is shut out as `is`. What the others hold is not known to be shorter: to believe
    /// too much only has each of them asked, but to believe too little would have a shorter block take the place of a longer.
    pub fn hear(&mut self, scope: Prefix, is: &Block) {
        if let Some(stands) = self.blocks.get(&scope) {
            self.put(scope, stands.joined(is));
        }
    }

    /// Whether `scope` is to be shut out at the moment `now`.
    #[must_use]
    pub fn holds(&self, scope: Prefix, now: Timestamp) -> bool {
        self.blocks.get(&scope).is_some_and(|block| !block.is_over(now))
    }

    /// Whether `scope` is to be shut out as `block`, and not otherwise.
    #[must_use]
    pub fn wants(&self, scope: Prefix, block: &Block) -> bool {
        self.blocks.get(&scope) == Some(block)
    }

    /// What was decided last about `scope` is not done after all.
    pub fn forget(&mut self, scope: Prefix) {
        self.drop(scope);
    }

    /// Those are not to be shut out any more.
    pub fn let_in(&mut self, whom: impl Fn(Prefix) -> bool) {
        self.blocks.retain(|scope, _| !whom(*scope));
        self.ends.retain(|(_, scope)| !whom(*scope));
        self.unproven = self.blocks.values().filter(|block| block.unproven).count();
    }

    /// Forgets everything: everybody was let in.
    pub fn clear(&mut self) {
        self.blocks.clear();
        self.ends.clear();
        self.unproven = 0;
    }

    /// Forgets what has ended.
    pub fn expire(&mut self, now: Timestamp) {
        while let Some((_, scope)) = self.ends.first().copied().filter(|(until, _)| *until <= now) {
            self.drop(scope);
        }
    }

    fn put(&mut self, scope: Prefix, block: Block) {
        self.drop(scope);
        if let Some(until) = block.until {
            self.ends.insert((until, scope));
        }
        self.unproven += usize::from(block.unproven);
        self.blocks.insert(scope, block);
    }

    fn drop(&mut self, scope: Prefix) {
        let Some(block) = self.blocks.remove(&scope) else { return };
        self.unproven -= usize::from(block.unproven);
        if let Some(until) = block.until {
            self.ends.remove(&(until, scope));
        }
    }
}

#[cfg(test)]
mod tests;
