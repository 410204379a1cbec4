//! What can go wrong with commands about the installed suite, in sentences that say what to do.

use std::io;
use std::path::Path;

use psentry_follow::FollowError;
use psentry_stage::{Exit, Failure};

/// Why a command ends: an exit code, and a sentence, which is empty where standard output has said it.
#[derive(Debug, thiserror::Error)]
#[error("{1}")]
pub struct Error(pub Exit, pub String);

impl Error {
    /// A file cannot be read or written, or may not.
    pub fn file(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let what = format!("cannot {doing} {}", path.display());
        move |why| match why.kind() {
            io::ErrorKind::PermissionDenied => Self::rights(&what),
            _ => Error(Exit::Io, format!("{what}: {why}")),
        }
    }

    /// Standard output takes no more. A reader that has seen enough ends the program, and is no error.
    pub fn output(why: io::Error) -> Self {
        match why.kind() {
            io::ErrorKind::BrokenPipe => Error(Exit::Ok, String::new()),
            _ => Error(Exit::Io, format!("cannot write to standard output: {why}")),
        }
    }

    /// This user may not.
    pub fn rights(what: &str) -> Self {
        Error(Exit::NoPermission, format!("{what}: permission denied; run this as root"))
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
