//! What the main loop says of the brake on what is not proven: loudly that it holds, and when it has let go, how many it turned down.

use std::time::Instant;

use psentry_records::Prefix;

use crate::run::Stage;
use crate::run::brake::Held;

impl Stage {
    /// Why the brake turns a new block down; `None`: it does not.
    pub(crate) fn hold(&mut self, scope: Prefix) -> Option<String> {
        let Held::Yes { why, first } = self.brake.as_mut()?.hold(scope, Instant::now()) else { return None };
        self.reporter.counters.braked.add();
        self.ledger.forget(scope);
        if first {
            self.reporter.tell(&format!(
                "THE BRAKE HOLDS: {scope} is not blocked, for {why}; more are turned down until it is a minute quiet, but \
                 none that handshakes prove"
            ));
        }
        Some(why)
    }

    /// Says that the brake has let go, or at the `end` that it holds.
    pub(crate) fn braked(&mut self, end: bool) {
        let Some(brake) = &mut self.brake else { return };
        let (count, what) = match (brake.let_go(Instant::now()), brake.holds().filter(|_| end)) {
            (Some(count), _) => (count, "has let go"),
            (None, Some(count)) => (count, "held until the end"),
            (None, None) => return,
        };
        self.reporter.tell(&format!("the brake {what}: {count} unproven blocks were turned down"));
    }
}
