//! What can go wrong with psentry, in sentences that say what to do.

use std::io;
use std::path::Path;

use psentry_follow::FollowError;
use psentry_stage::{Exit, Failure};

/// Why psentry ends: an exit code, and a sentence, which is empty where standard output has said it.
#[derive(Debug, thiserror::Error)]
#[error("{1}")]
pub struct Error(pub(crate) Exit, pub(crate) String);

impl Error {
    /// A file cannot be read or written, or may not.
    pub(crate) fn file(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let what = format!("cannot {doing} {}", path.display());
        move |why| match why.kind() {
            io::ErrorKind::PermissionDenied => Self::rights(&what),
            _ => Error(Exit::Io, format!("{what}: {why}")),
        }
    }

    /// This user may not.
    pub(crate) fn rights(what: &str) -> Self {
        Error(Exit::NoPermission, format!("{what}: you may not; run this as root"))
    }
}

impl Failure for Error {
    fn exit(&self) -> Exit {
        self.0
    }
}

impl From<FollowError> for Error {
    fn from(FollowError { path, source }: FollowError) -> Self {
        Self::file("read", &path)(source)
    }
}
