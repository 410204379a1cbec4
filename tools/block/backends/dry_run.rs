//! The backend that only says what it would do, for trying a policy. Needs no rights and changes nothing.

use std::collections::HashSet;
use std::io::{self, Write};

use psentry_records::{Prefix, Timestamp};

use crate::backend::{Backend, Block, Change, Effect, Entry, Wish};
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
                Wish::Block(block) => {
                    let until = block.until.map_or_else(|| "it is unblocked".to_owned(), moment);
                    let unproven = if block.unproven { " (unproven)" } else { "" };
                    format!("would block {scope}{}{unproven} until {until}", ports(block))
                }
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

/// The ports that alone would be shut, in words.
fn ports(block: &Block) -> String {
    let ports: Vec<String> = block.ports.iter().map(u16::to_string).collect();
    match &*ports {
        [] => String::new(),
        [port] => format!(" at port {port}"),
        ports => format!(" at ports {}", ports.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_that_alone_would_be_shut_are_named() {
        let words = |list: &[u16]| ports(&Block { ports: list.to_vec(), ..Block::default() });
        assert_eq!([words(&[]), words(&[22])], ["", " at port 22"]);
        assert_eq!(words(&[22, 23]), " at ports 22, 23");
    }
}
