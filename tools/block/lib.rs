//! psentry-block: verdicts in, outcomes out.

#![forbid(unsafe_code)]

pub mod backend;
pub mod backends;
mod backoff;
pub mod block;
mod brake;
mod capacity;
pub mod cli;
mod clock;
mod commands;
mod counters;
mod desired;
mod engine;
mod error;
pub mod guard;
mod help;
mod journal;
mod judge_fifo;
mod kill_on_block;
mod note;
mod outcomes;
pub mod ports;
mod protocol;
pub mod reach;
mod reach_flags;
mod reconcile;
mod repair_rate;
mod sink;
mod worker;

pub use error::Error;
pub use help::Line;

use psentry_stage::host_name;

/// The program.
///
/// # Errors
/// What ends it.
pub fn run(flags: cli::Flags) -> Result<(), Error> {
    let mut flags = flags;
    let host = flags.host.take().or_else(host_name);
    if flags.check {
        return commands::check(&flags);
    }
    match &flags.command {
        Some(command) => commands::run(&flags, command, host.as_deref()),
        None => engine::serve(&flags, host),
    }
}
