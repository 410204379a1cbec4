//! What can go wrong with psentry-show, in sentences that say what to do.

use std::io;

use psentry_follow::FollowError;
use psentry_stage::{Exit, Failure};

/// Why psentry-show ends.
#[derive(Debug, thiserror::Error)]
pub enum ShowError {
    /// read(2) or poll(2) of standard input failed.
    #[error("cannot read standard input: {0}")]
    Input(#[source] io::Error),
    /// A file of records cannot be read.
    #[error(transparent)]
    File(#[from] FollowError),
    /// write(2) to standard output failed, or its reader is gone.
    #[error("cannot write to standard output: {0}; is its reader gone?")]
    Output(#[source] io::Error),
    /// signalfd(2) failed, because there are no descriptors.
    #[error("cannot wait for signals: {0}")]
    Signals(#[source] io::Error),
}

impl Failure for ShowError {
    fn exit(&self) -> Exit {
        match self {
            ShowError::Input(_) | ShowError::Output(_) => Exit::Io,
            ShowError::File(_) => Exit::Config,
            ShowError::Signals(_) => Exit::Os,
        }
    }
}
