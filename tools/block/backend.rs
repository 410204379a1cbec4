//! What every backend can do. A backend changes one piece of the system (a set of the kernel, a chain, routes, a
//! file, what a command does) and says of each change whether it is confirmed. It decides nothing, keeps no clock,
//! and trusts no memory of its own: whoever changes the same piece by hand meanwhile is right.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use psentry_records::{Prefix, Proto, Timestamp};
use psentry_stage::printable;

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

    /// Puts back what the blocks of these scopes stand in, and says whether anything of it was missing.
    ///
    /// # Errors
    /// When it is not as it should be.
    fn mend(&mut self, _scopes: &[Prefix]) -> Result<bool, Error> {
        Ok(false)
    }

    /// Takes every trace of psentry away, and says which blocks went with it.
    ///
    /// # Errors
    /// When something is left.
    fn remove(&mut self) -> Result<Vec<Entry>, Error>;

    /// Whether a block ends at its end without psentry-block.
    fn ends_by_itself(&self) -> bool;

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
    pub ipv4: usize,
    /// Of IPv6.
    pub ipv6: usize,
}

impl Count {
    /// Of one family.
    #[must_use]
    pub fn of(self, ipv4: bool) -> usize {
        if ipv4 { self.ipv4 } else { self.ipv6 }
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

/// What is wanted of a scope.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Whom it concerns.
    pub scope: Prefix,
    /// What is to be.
    pub wish: Wish,
}

/// What is to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Wish {
    /// Shut out.
    Block(Block),
    /// Let in; what was known of the block.
    Release(Block),
}

/// A block: its end, and what is told about it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Block {
    /// When it ends; `None`: when somebody ends it.
    pub until: Option<Timestamp>,
    /// The rule that decided, for people who list.
    pub rule: Option<String>,
    /// A port that was probed, for commands.
    pub port: Option<u16>,
    /// Its transport, and that of `ports`: where it is neither TCP nor UDP, both are shut.
    pub proto: Option<Proto>,
    /// The ports that alone are shut, in order, at most `ports::MOST_PORTS`; empty: the source is shut out as a whole.
    pub ports: Vec<u16>,
    /// The moment of the verdict, for people; `None`: not known, it was found.
    pub since: Option<Timestamp>,
    /// The sentence of the verdict, for people: printable and short (see `told`).
    pub reason: Option<String>,
    /// The 1st, 2nd, ... time that this source is convicted, for commands.
    pub offence: Option<u32>,
}

/// What a change came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is now as wished.
    Done,
    /// A release found nothing to release.
    WasNotThere,
}

/// A block that stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Who is shut out.
    pub scope: Prefix,
    /// When it ends; `None`: when somebody ends it.
    pub until: Option<Timestamp>,
    /// The rule that decided.
    pub rule: Option<String>,
    /// The kernel would end it before `until`, because it could not be told more at once.
    pub early: bool,
    /// The moment of the verdict.
    pub since: Option<Timestamp>,
    /// The ports that alone are shut, in order; empty: all of them.
    pub ports: Vec<u16>,
    /// Their transport; `None`: TCP and UDP.
    pub proto: Option<Proto>,
}

/// The longest reason that is kept. A sentence of the judge is shorter.
const LONGEST_REASON: usize = 300;

/// What is kept of a reason or a rule's name that came from outside: what a terminal prints as itself, and not too much of it.
#[must_use]
pub fn told(reason: &str) -> Option<String> {
    let shown: String = printable(reason).chars().take(LONGEST_REASON).collect();
    Some(shown.trim().to_owned()).filter(|reason| !reason.is_empty())
}

impl Block {
    /// Whether its time is over.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// Whether it lasts at least as long as a block that ends at `other`.
    #[must_use]
    pub fn outlasts(&self, other: Option<Timestamp>) -> bool {
        match (self.until, other) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(until), Some(other)) => until >= other,
        }
    }

    /// How many seconds from `now`, rounded up; `None`: without end.
    #[must_use]
    pub fn seconds_left(&self, now: Timestamp) -> Option<u64> {
        self.until
            .map(|until| until.since(now).as_micros().div_ceil(1_000_000).try_into().unwrap_or(u64::MAX))
    }
}

impl Entry {
    /// A block that stands until its end.
    #[must_use]
    pub fn new(scope: Prefix, until: Option<Timestamp>, rule: Option<String>) -> Self {
        Entry { scope, until, rule, early: false, since: None, ports: Vec::new(), proto: None }
    }

    /// All that is known of the block: what stands is right, and what is not seen of it is as it was `known`. Not every
    /// backend has room for the rule, and none for the rest.
    #[must_use]
    pub fn with(&self, known: Block) -> Block {
        Block {
            until: self.until,
            rule: self.rule.clone().or(known.rule),
            since: known.since.or(self.since),
            ports: self.ports.clone(),
            proto: if self.ports.is_empty() { known.proto.or(self.proto) } else { self.proto },
            ..known
        }
    }
}

impl From<&Entry> for Block {
    /// All that can be told of a block by what stands.
    fn from(entry: &Entry) -> Self {
        let Entry { until, since, proto, .. } = *entry;
        let (rule, ports) = (entry.rule.clone(), entry.ports.clone());
        Block { until, rule, since, proto, ports, ..Block::default() }
    }
}

impl Change {
    /// The block that is wished for, if one is.
    #[must_use]
    pub fn block(&self) -> Option<&Block> {
        self.wish.block()
    }
}

impl Wish {
    /// The block, if it is one.
    #[must_use]
    pub fn block(&self) -> Option<&Block> {
        match self {
            Wish::Block(block) => Some(block),
            Wish::Release(_) => None,
        }
    }
}
