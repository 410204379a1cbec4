//! What can go wrong, as sentences that name the place and the remedy, and the exit code that each deserves.
//!
//! The same errors serve two ends: at the start they end the program, later they stand in an outcome `failed`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{io, time::Duration};

use psentry_control::ControlError;
use psentry_stage::{Exit, Failure};

/// Why something could not be done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A program that a backend runs is not installed.
    #[error(
        "--backend {backend} needs the program '{program}', which is not installed; \
         install it or choose another --backend"
    )]
    Missing {
        /// Who needs it.
        backend: &'static str,
        /// Its name.
        program: String,
    },
    /// The kernel says EPERM.
    #[error("--backend {backend} needs CAP_NET_ADMIN; run psentry-block as root")]
    NotPermitted {
        /// Who needs it.
        backend: &'static str,
    },
    /// The kernel, or a program that changes it.
    #[error(transparent)]
    System(#[from] psentry_linux::Error),
    /// A set or a table of the kernel has no room left.
    #[error("{what} is full ({size} entries)")]
    Full {
        /// Which.
        what: String,
        /// How many it holds.
        size: u32,
    },
    /// A file could not be read or written.
    #[error("{}: cannot {doing}: {why}{}", path.display(), remedy(why))]
    File {
        /// Which.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        why: Arc<io::Error>,
    },
    /// A file that psentry-block keeps was changed by somebody into what it cannot read.
    #[error("{}, line {line}: {what}; repair it by hand", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Where.
        line: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// Another psentry-block held a lock for too long.
    #[error("{}: another psentry-block holds the lock for {}; is it hanging?", path.display(), seconds(*.limit))]
    Locked {
        /// What is locked.
        path: PathBuf,
        /// How long was waited.
        limit: Duration,
    },
    /// Another psentry-block keeps what it remembers there.
    #[error(
        "{}: another psentry-block remembers its blocks here; end it, or give this one another --state",
        path.display()
    )]
    Kept {
        /// The file.
        path: PathBuf,
    },
    /// It is done, and has no effect.
    #[error("{0}")]
    NoEffect(String),
    /// Flags that do not go together.
    #[error("{0}")]
    Usage(String),
    /// `--check` found something.
    #[error("{0}")]
    Config(String),
    /// Standard input.
    #[error("standard input: {0}")]
    Input(Arc<io::Error>),
    /// Standard output: whoever read the outcomes is gone.
    #[error("standard output: {0}; without a reader of its outcomes psentry-block stops")]
    Output(Arc<io::Error>),
    /// What was asked was answered, and the answer is no.
    #[error("{0}")]
    No(String),
    /// Somebody must not do that.
    #[error("{0}")]
    Forbidden(String),
    /// The program ends, and something is not as it should be.
    #[error("{0}")]
    Unfinished(String),
}

impl Error {
    /// Whether this machine lacks what was asked for, so that nothing of it can stand here. A program that could not
    /// say what stands, because another held its lock, is no such thing.
    pub(crate) fn is_unsupported(&self) -> bool {
        match self {
            Error::Missing { .. } => true,
            Error::System(error) => error.is_unsupported(),
            _ => false,
        }
    }

    /// Whether a command was not even run, so that it did nothing.
    pub(crate) fn never_ran(&self) -> bool {
        matches!(self, Error::Missing { .. } | Error::System(psentry_linux::Error::NotStarted { .. }))
    }

    /// For `map_err`: an error of a file.
    pub(crate) fn file(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |why| Error::File { path, doing, why: Arc::new(plain(why)) }
    }

    /// For `map_err`: an error of a system call.
    pub(crate) fn system(doing: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |why| Error::System(psentry_linux::Error::system(doing)(why))
    }
}

impl From<ControlError> for Error {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Taken { .. } => {
                Error::Unfinished(format!("--control {error}; end it, or give this one another --control"))
            }
            ControlError::NotASocket { .. } => Error::Usage(format!("--control {error}")),
            ControlError::File { path, doing, why } => Error::file(&path, doing)(why),
        }
    }
}

impl Failure for Error {
    fn exit(&self) -> Exit {
        match self {
            Error::Missing { .. } => Exit::Unavailable,
            Error::No(_) => Exit::No,
            Error::NotPermitted { .. } | Error::Forbidden(_) => Exit::NoPermission,
            Error::System(error) if error.is_permission() => Exit::NoPermission,
            Error::File { why, .. } if why.kind() == io::ErrorKind::PermissionDenied => Exit::NoPermission,
            Error::System(_)
            | Error::Full { .. }
            | Error::Locked { .. }
            | Error::Kept { .. }
            | Error::NoEffect(_)
            | Error::Unfinished(_) => Exit::Os,
            Error::File { .. } | Error::Input(_) | Error::Output(_) => Exit::Io,
            Error::Damaged { .. } | Error::Config(_) => Exit::Config,
            Error::Usage(_) => Exit::Usage,
        }
    }
}

/// What the system said, without the name of a draft: the file that it was to become is named.
fn plain(why: io::Error) -> io::Error {
    match why.to_string().split_once(" at path \"") {
        Some((said, _)) if why.raw_os_error().is_none() => io::Error::new(why.kind(), said.to_owned()),
        _ => why,
    }
}

/// What to do about it, if that is known.
fn remedy(why: &io::Error) -> &'static str {
    match why.kind() {
        io::ErrorKind::PermissionDenied => "; run this as root, or give this user the right",
        io::ErrorKind::ReadOnlyFilesystem => {
            "; a service is given the right as psentry-block(8) says under 'Rights of the backends'"
        }
        _ => "",
    }
}

fn seconds(span: Duration) -> String {
    format!("{} s", span.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_is_meant_is_named_and_not_its_draft() {
        let directory = tempfile::tempdir().unwrap();
        let gone = directory.path().join("gone");
        let why = tempfile::NamedTempFile::new_in(&gone).unwrap_err();
        assert!(why.to_string().contains(".tmp"), "{why}");
        let said = Error::file(Path::new("/etc/hosts.deny"), "write a new one beside it")(why).to_string();
        assert_eq!(
            said,
            "/etc/hosts.deny: cannot write a new one beside it: No such file or directory (os error 2)"
        );
        let why = io::Error::from_raw_os_error(nix::errno::Errno::EACCES as i32);
        let error = Error::file(Path::new("/run/lock"), "open the lock")(why);
        assert!(error.to_string().ends_with("; run this as root, or give this user the right"), "{error}");
        assert_eq!(error.exit(), Exit::NoPermission);
    }
}
