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
