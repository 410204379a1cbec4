//! What can go wrong, as sentences that name the place and the remedy, and the exit code that each deserves.
//!
//! The same errors serve two ends: at the start they end the program, later they stand in an outcome `failed`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{io, time::Duration};

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
    #[error("--backend {backend} needs CAP_NET_ADMIN; run psentry-block as root, or with --backend dry-run")]
    NotPermitted {
        /// Who needs it.
        backend: &'static str,
    },
    /// The kernel, or a program that changes it.
    #[error(transparent)]
    System(#[from] psentry_kernel::Error),
    /// A set or a table of the kernel has no room left.
    #[error("{what} is full ({size} entries)")]
    Full {
        /// Which.
        what: String,
        /// How many it holds.
        size: u32,
    },
    /// A file could not be read or written.
    #[error("{}: cannot {doing}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        why: Arc<io::Error>,
    },
    /// A file that psentry-block keeps was changed by somebody into what it cannot read.
    #[error("{}, line {line}: {what}; mend it by hand, psentry-block does not guess", path.display())]
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
    /// Another psentry-block listens on the control socket.
    #[error(
        "--control {}: another psentry-block listens there; end it, or give this one another --control",
        path.display()
    )]
    Listened {
        /// The socket.
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

    /// For `map_err`: an error of a file.
    pub(crate) fn file(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |why| Error::File { path, doing, why: Arc::new(why) }
    }

    /// For `map_err`: an error of a system call.
    pub(crate) fn system(doing: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |why| Error::System(psentry_kernel::Error::system(doing)(why))
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
            | Error::Listened { .. }
            | Error::NoEffect(_)
            | Error::Unfinished(_) => Exit::Os,
            Error::File { .. } | Error::Input(_) | Error::Output(_) => Exit::Io,
            Error::Damaged { .. } | Error::Config(_) => Exit::Config,
            Error::Usage(_) => Exit::Usage,
        }
    }
}

fn seconds(span: Duration) -> String {
    format!("{} s", span.as_secs_f64())
}
