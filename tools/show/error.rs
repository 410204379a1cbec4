//! What can go wrong with psentry-show, in sentences that say what to do.

use std::io;

use psentry_stage::{Exit, Failure};

/// Why psentry-show ends.
#[derive(Debug, thiserror::Error)]
pub enum ShowError {
    /// Nothing to read from.
    #[error("cannot read standard input: {0}")]
    Input(#[source] io::Error),
    /// Nobody to tell.
    #[error("cannot write to standard output: {0}; is its reader gone?")]
    Output(#[source] io::Error),
    /// The system has no descriptor left.
    #[error("cannot wait for signals: {0}")]
    Signals(#[source] io::Error),
}

impl Failure for ShowError {
    fn exit(&self) -> Exit {
        match self {
            ShowError::Input(_) | ShowError::Output(_) => Exit::Io,
            ShowError::Signals(_) => Exit::Os,
        }
    }
}
