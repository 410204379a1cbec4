//! What can go wrong with psentry-judge, in sentences that say what to do.

use std::io;
use std::path::PathBuf;

use psentry_stage::{Exit, Failure};

use crate::policy::PolicyError;

/// Why psentry-judge ends with another exit code than 0.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// `--policy FILE` or an ignore file is unreadable or wrong.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The folder of `--state` cannot be used.
    #[error("--state: {what} {}: {source}", path.display())]
    State {
        /// What failed, to begin the sentence.
        what: &'static str,
        /// The file or folder it failed with.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another judge has that folder.
    #[error("--state: another psentry-judge uses {}; give each a folder of its own", .0.display())]
    Locked(PathBuf),
    /// `--records FILE` cannot be read.
    #[error("--records: cannot read {}: {source}", path.display())]
    Records {
        /// The file, as the flag names it.
        path: PathBuf,
        /// What the system says, or the decompressor.
        source: io::Error,
    },
    /// Standard input is closed or fails.
    #[error("cannot read standard input: {0}")]
    Input(#[source] io::Error),
    /// Standard output is closed or fails; its reader may have ended.
    #[error("cannot write verdicts to standard output: {0}; is its reader gone?")]
    Output(#[source] io::Error),
    /// The system has no descriptor left.
    #[error("cannot wait for signals: {0}")]
    Signals(#[source] io::Error),
}

impl Failure for JudgeError {
    fn exit(&self) -> Exit {
        match self {
            JudgeError::Policy(_) | JudgeError::Locked(_) | JudgeError::Records { .. } => Exit::Config,
            JudgeError::State { .. } | JudgeError::Input(_) | JudgeError::Output(_) => Exit::Io,
            JudgeError::Signals(_) => Exit::Os,
        }
    }
}
