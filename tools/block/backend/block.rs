//! Blocks as backends know them: what is wanted of a scope, and what stands.

use psentry_records::{Prefix, Proto, Timestamp};
use psentry_stage::printable;

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
    /// No handshake proves that the source is who it says: what is established is left alone, for anybody may have forged it.
    pub unproven: bool,
    /// The moment of the verdict, for people; `None`: not known, it was found.
    pub since: Option<Timestamp>,
    /// The sentence of the verdict, for people: printable and short (see `told`).
    pub reason: Option<String>,
    /// The 1st, 2nd, ... time that this source is convicted, for commands.
    pub offence: Option<u32>,
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
    /// It leaves alone what is established.
    pub unproven: bool,
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
        Entry {
            scope,
            until,
            rule,
            early: false,
            since: None,
            ports: Vec::new(),
            proto: None,
            unproven: false,
        }
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
            unproven: self.unproven,
            proto: if self.ports.is_empty() { known.proto.or(self.proto) } else { self.proto },
            ..known
        }
    }
}

impl From<&Entry> for Block {
    /// All that can be told of a block by what stands.
    fn from(entry: &Entry) -> Self {
        let Entry { until, since, proto, unproven, .. } = *entry;
        let (rule, ports) = (entry.rule.clone(), entry.ports.clone());
        Block { until, rule, since, proto, ports, unproven, ..Block::default() }
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
