//! What people ask of psentry-block: each command is a question to the engine (`protocol.rs`), and its answer in words. The
//! engine that runs is asked on its control socket; where none runs, the same engine answers once in this process. So a command
//! has no other way to do anything, but for `panic`, which must work beside an engine that hangs.
//!
//! | file | what it holds |
//! |---|---|
//! | `client.rs` | asks, and what was answered |
//! | `change.rs` | `block`, `unblock`, `flush` |
//! | `query.rs` | `list`, `why` |
//! | `status.rs` | `status` |
//! | `panic.rs` | `panic`, `resume` |
//! | `print.rs` | answers as sentences, tables and lines of JSON |

mod change;
mod client;
mod panic;
mod print;
mod query;
mod status;

use psentry_stage::FifoWriter;
use psentry_stage::panic_file::PanicFile;

use self::client::Client;
use crate::cli::{Command, Flags};
use crate::error::Error;
use crate::outcomes::EVENTS;

/// Runs a command; outcomes that it prints are in the name of `host`.
///
/// # Errors
/// What went wrong, or that the answer is no, with the exit code that goes with it.
pub(crate) fn run(flags: &Flags, command: &Command, host: Option<&str>) -> Result<(), Error> {
    let client = Client { flags, host };
    match command {
        Command::Block { scope, span, reason } => change::block(client, *scope, *span, reason.as_deref()),
        Command::Unblock { scope } => change::unblock(client, *scope),
        Command::Flush => change::flush(client),
        Command::List => query::list(client),
        Command::Why { scope } => query::why(client, *scope),
        Command::Status => status::status(client),
        Command::Panic { reason } => panic::panic(client, &PanicFile::default(), reason.as_deref()),
        Command::Resume => panic::resume(client, &PanicFile::default(), FifoWriter::at(EVENTS.into())),
    }
}
