//! What is planned for one scope. Pure.

use std::time::Duration;

use psentry_records::{Common, Timestamp};

use crate::backend::Block;

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
    /// It failed, or must not be done yet and is `refused`, and is tried again; meanwhile an older block may still stand.
    Failing { retry: Timestamp, wait: Duration, why: String, stood: Option<Block>, refused: bool },
    /// It is to go, and would not.
    Leaving { retry: Timestamp, wait: Duration },
    /// Somebody let it in by hand. It is remembered to its end, so that it is known not to stand.
    LetIn,
}

impl Plan {
    /// The next moment at which something is to be done.
    pub(super) fn due(&self) -> Option<Timestamp> {
        let end = self.block.until;
        match &self.state {
            State::Standing { renew } => [end, *renew].into_iter().flatten().min(),
            State::Failing { retry, stood, .. } => {
                let lapse = stood.as_ref().and_then(|stood| stood.until);
                [Some(*retry), end, lapse].into_iter().flatten().min()
            }
            State::Leaving { retry, .. } => Some(*retry),
            State::LetIn => end,
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
            State::LetIn => None,
        }
    }

    /// Whether it should stand at the moment `now`.
    pub(crate) fn should_stand(&self, now: Timestamp) -> bool {
        let leaving = matches!(self.state, State::Leaving { .. });
        !leaving && self.stands().is_some_and(|block| !block.is_over(now))
    }

    /// Whether somebody let it in by hand.
    pub(crate) fn is_let_in(&self) -> bool {
        self.state == State::LetIn
    }

    /// Whether it failed, or would not go.
    pub(super) fn fails(&self) -> bool {
        matches!(self.state, State::Failing { refused: false, .. } | State::Leaving { .. })
    }

    /// Whether what is due at the moment `now` is an end.
    pub(crate) fn ends(&self, now: Timestamp) -> bool {
        let over = |block: &Block| block.is_over(now);
        matches!(self.state, State::Leaving { .. }) || over(&self.block) || self.stands().is_some_and(over)
    }
}
