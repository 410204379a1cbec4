//! The backend that only says what it would do, for trying a policy. Needs no rights and changes nothing.

use std::io::{self, Write};

use psentry_records::Timestamp;

use crate::backend::{Backend, Caps, Listing, Op};
use crate::block::Block;
use crate::error::Error;
use crate::note::moment;

/// The backend.
pub(super) struct DryRun;

impl Backend for DryRun {
    fn caps(&self) -> Caps {
        // Nothing is there to be listed: what it has said stands.
        Caps { lists: false, ..Caps::of("dry-run") }
    }

    fn ensure(&mut self) -> Result<bool, Error> {
        Ok(false)
    }

    fn list(&mut self) -> Result<Listing, Error> {
        Ok(Listing::default())
    }

    fn apply(&mut self, ops: &[Op], _: Timestamp) -> Vec<Result<(), Error>> {
        let say = |op: &Op| {
            let sentence = match op {
                Op::Put { scope, block, .. } => {
                    let end = block
                        .until
                        .map_or_else(|| ", no end".to_owned(), |until| format!(" until {}", moment(until)));
                    let unproven = if block.unproven { " (unproven)" } else { "" };
                    format!("would block {scope}{}{unproven}{end}", ports(block))
                }
                Op::Delete { scope, .. } => format!("would unblock {scope}"),
            };
            let _ = writeln!(io::stderr(), "psentry-block: {sentence}");
            Ok(())
        };
        ops.iter().map(say).collect()
    }

    fn purge(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// The ports that alone would be blocked, in words.
fn ports(block: &Block) -> String {
    let ports: Vec<String> = block.ports.iter().map(u16::to_string).collect();
    match &*ports {
        [] => String::new(),
        [port] => format!(" at port {port}"),
        ports => format!(" at ports {}", ports.join(", ")),
    }
}
