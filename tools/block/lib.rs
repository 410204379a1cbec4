//! psentry-block: verdicts in, outcomes out.

#![forbid(unsafe_code)]

pub mod backend;
pub mod backends;
pub mod block;
mod brake;
mod capacity;
pub mod cli;
mod commands;
mod cpu_time;
mod engine;
mod error;
pub mod guard;
mod help;
mod lock;
mod note;
mod panic;
pub mod ports;
mod protocol;
pub mod reach;

pub use error::Error;
pub use help::Line;

/// The program.
///
/// # Errors
/// What ends it.
pub fn run(flags: cli::Flags) -> Result<(), Error> {
    let mut flags = flags;
    let host = flags.host.take().or_else(psentry_stage::host_name);
    if flags.check {
        return commands::check(&flags);
    }
    match &flags.command {
        Some(command) => commands::run(&flags, command, host.as_deref()),
        None => Ok(()),
    }
}
