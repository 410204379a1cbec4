//! What every backend can do. A backend changes one piece of the system (a set of the kernel, a chain, routes, a
//! file, what a command does) and says of each change whether it is confirmed. It decides nothing, keeps no clock,
//! and trusts no memory of its own: whoever changes the same piece by hand meanwhile is right.

mod block;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use psentry_records::{Prefix, Timestamp};

pub use self::block::{Block, Change, Entry, Wish, told};
use crate::error::Error;

/// One way to shut a source out.
pub trait Backend: Send {
    /// Its name on the command line and in outcomes.
    fn name(&self) -> &'static str;

    /// Makes what blocks will stand in, and adopts what an earlier run left: those blocks.
    ///
    /// # Errors
    /// When nothing can be blocked this way: a program is missing, a right is missing.
    fn prepare(&mut self) -> Result<Vec<Entry>, Error>;

    /// Makes each change true, and says of each whether it is: a block stands until the end that the change
    /// names, whatever stood before; a release leaves nothing. Scopes within one call are distinct.
    fn apply(&mut self, changes: &[Change], now: Timestamp) -> Vec<Result<Effect, Error>>;

    /// Begins changes, at most `at_once`, each of a scope of which none is under way. What each came to, as of `apply`;
    /// or `None`, where it takes its time: then `done` tells, and `watch` is readable once it has something to tell.
    fn begin(&mut self, changes: &[Change], now: Timestamp) -> Vec<Option<Result<Effect, Error>>> {
        self.apply(changes, now).into_iter().map(Some).collect()
    }

    /// What came of changes that were begun and are over since the last call. Never waits.
    fn done(&mut self) -> Vec<(Change, Result<Effect, Error>)> {
        Vec::new()
    }

    /// What stands now, read from where it stands. Makes nothing, so that it is nothing when psentry never ran.
    ///
    /// # Errors
    /// When it cannot be read.
    fn list(&mut self) -> Result<Vec<Entry>, Error>;

    /// Blocks of which it is not known whether they stand, so that they are neither listed nor forgotten.
    ///
    /// # Errors
    /// When it cannot be read.
    fn unsure(&mut self) -> Result<Vec<Entry>, Error> {
        Ok(Vec::new())
    }

    /// Which of these scopes are blocked now.
    ///
    /// # Errors
    /// When it cannot be read.
    fn standing(&mut self, scopes: &HashSet<Prefix>) -> Result<HashSet<Prefix>, Error> {
        Ok(self.list()?.into_iter().map(|entry| entry.scope).filter(|scope| scopes.contains(scope)).collect())
    }

    /// A descriptor that is readable once somebody may have changed what this backend keeps, or something that was begun
    /// is over, from `prepare` on; `None`: nobody tells.
    fn watch(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// What others did since the last call, as far as it was told. Never waits.
    ///
    /// # Errors
    /// When nothing will be told any more; then `watch` is `None`.
    fn noticed(&mut self) -> Result<Noticed, Error> {
        Ok(Noticed::default())
    }

    /// How often it has to look for itself whether its blocks stand, because nobody tells; `None`: it is told.
    fn look_every(&self) -> Option<Duration> {
        None
    }

    /// Looks, with as few questions as will do, whether as many blocks stand as should.
    ///
    /// # Errors
    /// When that cannot be told.
    fn look(&mut self, _should: Count) -> Result<Noticed, Error> {
        Ok(Noticed::default())
    }

    /// Puts back what these blocks stand in, and says whether anything of it was missing.
    ///
    /// # Errors
    /// When it is not as it should be.
    fn mend(&mut self, _blocks: &[(Prefix, &Block)]) -> Result<bool, Error> {
        Ok(false)
    }

    /// Takes every trace of psentry away, and says which blocks went with it.
    ///
    /// # Errors
    /// When something is left.
    fn remove(&mut self) -> Result<Vec<Entry>, Error>;

    /// Whether a block ends at its end without psentry-block.
    fn ends_by_itself(&self) -> bool;

    /// Whether a block can leave alone what is established, as one that is not proven has to.
    fn spares(&self) -> bool {
        true
    }

    /// How many changes it does well at once: what comes later waits for all of them, or for one that is under way.
    fn at_once(&self) -> usize {
        2000
    }

    /// The longest time that can be set at once; a longer block is renewed on its way.
    fn longest(&self) -> Option<Duration> {
        None
    }
}

/// What others did to what a backend keeps; each with who did it, as far as that is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Noticed {
    /// They ended these blocks, and nothing else: a decision, and it stands.
    pub let_in: Vec<(Prefix, String)>,
    /// Another process of psentry blocked these anew: their ends are a decision, too.
    pub decided: BTreeMap<Prefix, Entry>,
    /// Another process of psentry took all of it away: everybody was let in, whatever had been damaged before.
    pub cleared: Option<Cleared>,
    /// They chose what is to stand: whatever is missing was let in, unless there is damage beside it.
    pub edited: Option<String>,
    /// They changed something else, or it is not known what: whatever is missing is put back.
    pub damaged: Option<String>,
    /// What else is to be told of it, in sentences: that something was put before blocks that stand, for one.
    pub told: Vec<String>,
}

/// How many blocks there are of each family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Of IPv4.
    pub ipv4: Proof,
    /// Of IPv6.
    pub ipv6: Proof,
}

/// How many of them handshakes prove, and how many not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// Those that are proven.
    pub proven: usize,
    /// Those that are not.
    pub unproven: usize,
}

impl Count {
    /// Of one family.
    #[must_use]
    pub fn of(self, ipv4: bool) -> Proof {
        if ipv4 { self.ipv4 } else { self.ipv6 }
    }
}

impl Proof {
    /// Those of one kind.
    #[must_use]
    pub fn of(self, unproven: bool) -> usize {
        if unproven { self.unproven } else { self.proven }
    }

    /// All of them.
    #[must_use]
    pub fn all(self) -> usize {
        self.proven + self.unproven
    }
}

/// That everybody was let in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cleared {
    /// By whom.
    pub who: String,
    /// What was put in place after that.
    pub since: BTreeSet<Prefix>,
}

/// What a change came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is now as wished.
    Done,
    /// A release found nothing to release.
    WasNotThere,
}
