//! What can go wrong with psentry-judge, in sentences that say what to do.

use std::io;

use psentry_stage::{Exit, Failure};

use crate::IgnoreError;

/// Why psentry-judge ends.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// `--ignore FILE` is unreadable or wrong.
    #[error("--ignore: {0}")]
    Ignore(#[from] IgnoreError),
    /// Nothing to read from.
    #[error("cannot read standard input: {0}")]
    Input(#[source] io::Error),
    /// Nobody to tell.
    #[error("cannot write verdicts to standard output: {0}; is its reader gone?")]
    Output(#[source] io::Error),
    /// The system has no descriptor left.
    #[error("cannot wait for signals: {0}")]
    Signals(#[source] io::Error),
}

impl Failure for JudgeError {
    fn exit(&self) -> Exit {
        match self {
            JudgeError::Ignore(_) => Exit::Config,
            JudgeError::Input(_) | JudgeError::Output(_) => Exit::Io,
            JudgeError::Signals(_) => Exit::Os,
        }
    }
}
