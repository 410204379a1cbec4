//! What every backend can do. A backend changes one piece of the system (a set of the kernel, a chain, routes, a file, what
//! a command does). It is dumb: it decides nothing, remembers nothing that counts, and knows no retry. The engine says what is
//! to be done, and asks again what is there whenever something may have changed.
//!
//! Times are those of the wall clock. The engine converts them to its own clock (`clock.rs`).

use std::os::fd::BorrowedFd;
use std::time::Duration;

use psentry_records::{Prefix, Timestamp};

use crate::block::{Block, Entry};
use crate::error::Error;

/// One way to block sources. A backend runs in a thread of its own, or in several that know nothing of each other
/// ([`Caps::lanes`]).
pub trait Backend: Send {
    /// Its name, and what it can do.
    fn caps(&self) -> Caps;

    /// Makes what blocks stand in (a table, a chain, a set, a directory), as far as it is missing or not as it should be, and
    /// subscribes to changes; whether something had to be made. Nothing else is made by anybody but [`apply`](Self::apply).
    ///
    /// # Errors
    /// When nothing can be blocked this way: a program is missing, a right is missing. The engine reports it and tries again.
    fn ensure(&mut self) -> Result<bool, Error>;

    /// What is there now, read from where it is; works without [`ensure`](Self::ensure), and makes nothing.
    ///
    /// # Errors
    /// When it cannot be read.
    fn list(&mut self) -> Result<Listing, Error>;

    /// Applies operations, and says of each whether it is confirmed. Scopes within one call are distinct.
    fn apply(&mut self, ops: &[Op], now: Timestamp) -> Vec<Result<(), Error>>;

    /// A descriptor that is readable once somebody may have changed what this backend keeps; `None`: nothing reports
    /// changes.
    fn events(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Whether somebody else may have changed what this backend keeps since the last call, or since
    /// [`ensure`](Self::ensure). Called when [`events`](Self::events) is readable, and every [`Caps::poll_every`]. Never waits, reads all
    /// notifications, and is cheap: what there is now is asked of [`list`](Self::list).
    ///
    /// # Errors
    /// When that cannot be known any more. The engine reports it and lists.
    fn drift(&mut self) -> Result<Option<Drift>, Error> {
        Ok(None)
    }

    /// Deletes every trace of psentry; works without [`ensure`](Self::ensure), and beside another process of psentry.
    ///
    /// # Errors
    /// When something is left.
    fn purge(&mut self) -> Result<(), Error>;
}

/// What a backend can do; but for `poll_every` the same for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Its name on the command line and in outcomes.
    pub name: &'static str,
    /// Whether what it applied ends at its end without psentry-block.
    pub expires: bool,
    /// Whether it can list what is there.
    pub lists: bool,
    /// Whether the journal remembers what it did, for nobody can list it. Its lines are those of exec, so that one backend of a kind
    /// that cannot list is all that a run can have.
    pub journaled: bool,
    /// Whether a block can leave established connections alone, as an unproven one has to.
    pub spares: bool,
    /// How many threads apply operations beside each other.
    pub lanes: usize,
    /// How many operations it takes well at once: those that come later wait for all of them.
    pub batch: usize,
    /// How often it is to be listed although nothing changed, because it cannot be told long times at once: an entry whose rest
    /// has become too short is listed as damaged.
    pub list_every: Option<Duration>,
    /// How often [`Backend::drift`] is to be called although nothing reports changes.
    pub poll_every: Option<Duration>,
    /// How long the backends after it wait for its confirmation.
    pub patience: Duration,
}

impl Caps {
    /// Whether a block may be put on it: one that cannot spare established connections takes none that is unproven.
    #[must_use]
    pub fn takes(&self, block: &Block) -> bool {
        self.spares || !block.unproven
    }

    /// Of a backend that can do what most can: the kernel expires blocks, lists them and spares what is established.
    #[must_use]
    pub const fn of(name: &'static str) -> Self {
        Caps {
            name,
            expires: true,
            lists: true,
            journaled: false,
            spares: true,
            lanes: 1,
            batch: 2000,
            list_every: None,
            poll_every: None,
            patience: Duration::from_secs(2),
        }
    }
}

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Block a scope like this, whatever is there of it: exactly this is there afterwards. `was` is what the engine knows to
    /// be there, a hint that may be wrong.
    Put {
        /// Whom.
        scope: Prefix,
        /// How, and until when.
        block: Block,
        /// What is there of this scope already.
        was: Option<Entry>,
    },
    /// Delete whatever is there of a scope. That nothing was there is no error.
    Delete {
        /// Whose.
        scope: Prefix,
        /// As the engine knows it: what is there, or what may be there where the backend cannot list.
        was: Block,
    },
}

impl Op {
    /// Whom it concerns.
    #[must_use]
    pub fn scope(&self) -> Prefix {
        match self {
            Op::Put { scope, .. } | Op::Delete { scope, .. } => *scope,
        }
    }

    /// The block that it puts in place or deletes.
    #[must_use]
    pub fn about(&self) -> &Block {
        match self {
            Op::Put { block, .. } | Op::Delete { was: block, .. } => block,
        }
    }

    /// The block that it puts in place, if it does.
    #[must_use]
    pub fn block(&self) -> Option<&Block> {
        match self {
            Op::Put { block, .. } => Some(block),
            Op::Delete { .. } => None,
        }
    }
}

/// What is there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// The blocks, one for each scope.
    pub entries: Vec<Entry>,
    /// Why what is there does not block, each as a sentence: a rule that accepts before ours, another route. As long as there is
    /// one the status of the backend is not green.
    pub shadowed: Vec<String>,
}

/// That somebody else changed something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Who, in words for a message, such as `'nft' (process 123)`; `None`: not known.
    pub who: Option<String>,
}
