//! What becomes of a block that is not proven where a backend cannot leave alone what is established: it is refused.
//! Anybody may have forged what convicts the source, and would end the connections of whomever he likes.

use psentry_records::{Action, OutcomeResult, Prefix};

use super::{Job, Worker};
use crate::backend::{Change, Wish};
use crate::inbox::Ask;

impl Worker {
    /// What is to be done of a wish. A block that the backend cannot make as it has to be is answered; who was to be let in
    /// before that is let in.
    pub(super) fn spared(&self, scope: Prefix, wish: Wish, asks: Vec<Ask>) -> Option<(Change, Job)> {
        let Some(block) = wish.block().filter(|block| block.unproven && !self.backend.spares()).cloned()
        else {
            return Some((Change { scope, wish }, Job::Asked(asks)));
        };
        let (unblock, ask): (Vec<Ask>, Vec<Ask>) =
            asks.into_iter().partition(|ask| ask.action == Action::Unblock);
        let name = self.backend.name();
        let why =
            format!("no handshake proves the source, and {name} cannot leave alone what is established");
        self.answer(scope, &ask, block.until, |_| OutcomeResult::Refused, Some(&why));
        if unblock.is_empty() {
            // What is not made takes no room.
            self.inbox.tell_let_in(scope, block);
            return None;
        }
        Some((Change { scope, wish: Wish::Release(block) }, Job::Asked(unblock)))
    }
}
