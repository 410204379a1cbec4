//! What can go wrong, as sentences that name the place and the remedy, and the exit code that each deserves.
//!
//! The same errors serve two ends: at the start they end the program, later they stand in an outcome `failed`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{io, time::Duration};

use nix::errno::Errno;
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
    /// A program ended with an error.
    #[error("'{program}' failed ({status}): {said}")]
    Program {
        /// Its name.
        program: String,
        /// How it ended.
        status: String,
        /// Its exit code, if it had one.
        code: Option<i32>,
        /// The end of its standard error.
        said: String,
    },
    /// A program could not be started, so that it did nothing.
    #[error("'{program}' could not be run: {why}")]
    NotRun {
        /// Its name.
        program: String,
        /// What the system said.
        why: Arc<io::Error>,
    },
    /// A program did not end in time, and was killed.
    #[error("'{program}' did not end within {}", seconds(*.limit))]
    TooSlow {
        /// Its name.
        program: String,
        /// The time that it had.
        limit: Duration,
    },
    /// The kernel refused a request over netlink.
    #[error("the kernel refused to {doing}: {}", .errno.desc())]
    Kernel {
        /// What was asked for, as a verb and its object.
        doing: &'static str,
        /// Its answer.
        errno: Errno,
    },
    /// The kernel did not answer, or with what cannot be understood.
    #[error("the kernel gave no answer that can be understood when asked to {doing}: {why}")]
    Netlink {
        /// What was asked for.
        doing: &'static str,
        /// What is wrong with the answer.
        why: String,
    },
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
    /// The program ends, and something is not as it should be.
    #[error("{0}")]
    Unfinished(String),
    /// A call of the system that never fails failed.
    #[error("cannot {doing}: {why}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        why: Arc<io::Error>,
    },
}

/// What iptables and ipset say of a kernel without their modules.
const UNSUPPORTED: [&str; 4] = [
    "Table does not exist",
    "Protocol not supported",
    "Protocol not available",
    "Cannot open session to kernel",
];

impl Error {
    /// Whether this machine lacks what was asked for, so that nothing of it can stand here. A program that could not
    /// say what stands, because another held its lock, is no such thing.
    pub(crate) fn is_unsupported(&self) -> bool {
        let lacks = |errno: Errno| {
            use Errno::{EAFNOSUPPORT, ENOPROTOOPT, ENOSYS, EOPNOTSUPP, EPROTONOSUPPORT};
            [EAFNOSUPPORT, ENOPROTOOPT, ENOSYS, EOPNOTSUPP, EPROTONOSUPPORT].contains(&errno)
        };
        match self {
            Error::Missing { .. } => true,
            Error::Kernel { errno, .. } => lacks(*errno),
            Error::System { why, .. } => why.raw_os_error().is_some_and(|code| lacks(Errno::from_raw(code))),
            Error::Program { said, .. } => UNSUPPORTED.iter().any(|words| said.contains(words)),
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
        move |why| Error::System { doing, why: Arc::new(why) }
    }
}

impl Failure for Error {
    fn exit(&self) -> Exit {
        match self {
            Error::Missing { .. } => Exit::Unavailable,
            Error::NotPermitted { .. } => Exit::NoPermission,
            Error::Kernel { errno: Errno::EPERM | Errno::EACCES, .. } => Exit::NoPermission,
            Error::File { why, .. } if why.kind() == io::ErrorKind::PermissionDenied => Exit::NoPermission,
            Error::Program { .. }
            | Error::NotRun { .. }
            | Error::TooSlow { .. }
            | Error::Kernel { .. }
            | Error::Netlink { .. }
            | Error::Full { .. }
            | Error::Locked { .. }
            | Error::NoEffect(_)
            | Error::Unfinished(_)
            | Error::System { .. } => Exit::Os,
            Error::File { .. } | Error::Input(_) | Error::Output(_) => Exit::Io,
            Error::Damaged { .. } | Error::Config(_) => Exit::Config,
            Error::Usage(_) => Exit::Usage,
        }
    }
}

fn seconds(span: Duration) -> String {
    format!("{} s", span.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_machine_lacks_holds_nothing_for_sure() {
        let program = |code: i32, said: &str| Error::Program {
            program: "iptables".to_owned(),
            status: format!("exit status: {code}"),
            code: Some(code),
            said: said.to_owned(),
        };
        let table = "can't initialize iptables table `filter': Table does not exist (do you need to insmod?)";
        assert!(program(3, table).is_unsupported());
        assert!(!program(4, "Another app is currently holding the xtables lock.").is_unsupported());
        assert!(Error::Kernel { doing: "x", errno: Errno::EPROTONOSUPPORT }.is_unsupported());
        assert!(!Error::Kernel { doing: "x", errno: Errno::ENOMEM }.is_unsupported());
        assert!(!Error::TooSlow { program: "nft".to_owned(), limit: Duration::ZERO }.is_unsupported());
    }
}
