//! The guard, and what it saw of this machine last: addresses and gateways are asked of the kernel at the moment they
//! matter.

use std::time::{Duration, Instant};

use psentry_kernel::{Surroundings, look};
use psentry_records::Prefix;

use crate::error::Error;
use crate::guard::refusal;

/// How long what was seen counts while there is much to ask.
const FRESH: Duration = Duration::from_secs(1);

/// The guard, with what it saw last.
#[derive(Default)]
pub(crate) struct Guard {
    seen: Option<(Instant, Surroundings)>,
}

impl Guard {
    /// Why `scope` must not be blocked; `None`: it may.
    ///
    /// # Errors
    /// When the kernel does not answer: then nothing may be blocked.
    pub(crate) fn refusal(&mut self, scope: Prefix) -> Result<Option<String>, Error> {
        let seen = match self.seen.take() {
            Some((when, seen)) if when.elapsed() < FRESH => (when, seen),
            _ => (Instant::now(), look()?),
        };
        Ok(refusal(scope, &self.seen.insert(seen).1))
    }

    /// What was seen counts no longer.
    pub(crate) fn forget(&mut self) {
        self.seen = None;
    }
}
