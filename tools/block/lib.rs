//! psentry-block: verdicts in, outcomes out.

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
mod judge_fifo;
mod kill_on_block;
mod note;
mod outcomes;
pub mod ports;
mod protocol;
pub mod reach;
mod reconcile;
mod settings;
mod worker;

pub use cli::Line;
pub use error::Error;

use psentry_stage::host_name;

/// The program.
///
/// # Errors
/// What ends it.
pub fn run(flags: cli::Flags) -> Result<(), Error> {
    let mut flags = flags;
    let host = flags.host.take().or_else(host_name);
    if flags.check {
        return settings::check(&flags);
    }
    match &flags.command {
        Some(command) => commands::run(&flags, command, host.as_deref()),
        None => engine::serve(&flags, host),
    }
}
