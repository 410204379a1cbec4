//! The backend that only says what it would do, for trying a policy. Needs no rights and changes nothing.

use std::collections::HashSet;
use std::io::{self, Write};

use psentry_records::{Prefix, Timestamp};

use crate::backend::{Backend, Change, Effect, Entry, Wish};
use crate::error::Error;
use crate::note::moment;

/// The backend.
pub(super) struct DryRun;

impl Backend for DryRun {
    fn name(&self) -> &'static str {
        "dry-run"
    }

    fn prepare(&mut self) -> Result<Vec<Entry>, Error> {
        Ok(Vec::new())
    }

    fn apply(&mut self, changes: &[Change], _: Timestamp) -> Vec<Result<Effect, Error>> {
        let say = |change: &Change| {
            let scope = change.scope;
            let sentence = match &change.wish {
                Wish::Block(block) => match block.until {
                    Some(until) => format!("would block {scope} until {}", moment(until)),
                    None => format!("would block {scope} until it is unblocked"),
                },
                Wish::Release(_) => format!("would unblock {scope}"),
            };
            let _ = writeln!(io::stderr(), "psentry-block: {sentence}");
            Ok(Effect::Done)
        };
        changes.iter().map(say).collect()
    }

    fn list(&mut self) -> Result<Vec<Entry>, Error> {
        Ok(Vec::new())
    }

    /// It takes its own word for it.
    fn standing(&mut self, scopes: &HashSet<Prefix>) -> Result<HashSet<Prefix>, Error> {
        Ok(scopes.clone())
    }

    fn remove(&mut self) -> Result<Vec<Entry>, Error> {
        Ok(Vec::new())
    }

    fn ends_by_itself(&self) -> bool {
        true
    }
}
