//! psentry-block: verdicts in, outcomes out. ARCHITECTURE.md follows a verdict through these files.
//!
//! | file | what it holds |
//! |---|---|
//! | `engine/` | the thread that decides: what is wanted, what each backend is given to do, what came of it |
//! | `desired.rs`, `block.rs` | what is wanted; a block, and which of two shuts more |
//! | `brake.rs`, `backoff.rs` | what turns a new block down for a while; when what failed is tried again |
//! | `reconcile.rs` | what has to be done until what is there is what is wanted |
//! | `backend.rs`, `backends/` | what each backend can do; nft, iptables, ipset, route, hosts.deny, a command, dry-run |
//! | `worker.rs` | the thread of a backend |
//! | `note.rs` | what is said beside a block in the kernel or in a file |
//! | `journal/` | what is wanted, on disk |
//! | `clock.rs` | the time of the engine, which nobody sets |
//! | `outcomes.rs`, `counters.rs` | what is said: records, complaints, to the judge; what is counted |
//! | `journald.rs` | what systemd's journal has of outcomes |
//! | `commands/`, `protocol.rs` | what people ask, and how it is asked on the control socket |
//! | `cli.rs`, `reach.rs`, `settings.rs` | the flags, how far blocks reach by them, and whether they go together |
//! | `error.rs` | what can go wrong |

#![forbid(unsafe_code)]

pub mod backend;
pub mod backends;
mod backoff;
pub mod block;
mod brake;
pub mod cli;
mod clock;
mod commands;
mod counters;
mod desired;
mod engine;
mod error;
mod journal;
mod journald;
mod note;
mod outcomes;
mod protocol;
pub mod reach;
mod reconcile;
mod settings;
mod worker;

pub use error::Error;

use psentry_stage::host_name;

/// The program.
///
/// # Errors
/// What ends it.
pub fn run(flags: cli::Flags) -> Result<(), Error> {
    let host = flags.host.clone().or_else(host_name);
    match &flags.command {
        _ if flags.check => settings::check(&flags),
        Some(command) => commands::run(&flags, command, host.as_deref()),
        None => engine::serve(&flags, host),
    }
}
