//! What can go wrong with psentry, in sentences that say what to do.

use std::io;
use std::path::Path;

use psentry_control::Silence;
use psentry_follow::FollowError;
use psentry_records::IgnoreError;
use psentry_stage::{Exit, Failure};

/// Why psentry ends.
#[derive(Debug, thiserror::Error)]
#[error("{sentence}")]
pub struct Error {
    exit: Exit,
    sentence: String,
}

impl Error {
    /// This exit code, and this sentence; an empty one where standard output has said it.
    pub(crate) fn new(exit: Exit, sentence: impl Into<String>) -> Self {
        Error { exit, sentence: sentence.into() }
    }

    /// The answer is no.
    pub(crate) fn no(sentence: impl Into<String>) -> Self {
        Self::new(Exit::No, sentence)
    }

    /// A file cannot be read or written, or may not.
    pub(crate) fn file(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let what = format!("cannot {doing} {}", path.display());
        move |why| match why.kind() {
            io::ErrorKind::PermissionDenied => {
                Self::new(Exit::NoPermission, format!("{what}: {why}; run this as root"))
            }
            _ => Self::new(Exit::Io, format!("{what}: {why}")),
        }
    }

    /// A tool does not answer.
    pub(crate) fn silent(silence: &Silence, path: &Path, tool: &str) -> Self {
        let exit = if *silence == Silence::Forbidden { Exit::NoPermission } else { Exit::Os };
        Self::new(exit, silence.sentence(path, tool))
    }

    /// Only root may do this.
    pub(crate) fn not_root(what: &str) -> Self {
        Self::new(Exit::NoPermission, format!("{what} takes more rights; run this as root"))
    }
}

impl Failure for Error {
    fn exit(&self) -> Exit {
        self.exit
    }
}

impl From<FollowError> for Error {
    fn from(error: FollowError) -> Self {
        let FollowError { path, source } = error;
        Self::file("read", &path)(source)
    }
}

impl From<IgnoreError> for Error {
    fn from(error: IgnoreError) -> Self {
        match error {
            IgnoreError::Read { file, source } => Self::file("read", &file)(source),
            IgnoreError::Line { .. } => Self::new(Exit::Config, error.to_string()),
        }
    }
}
