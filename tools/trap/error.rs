//! What can go wrong with psentry-trap, in sentences that say what to do.

use std::io;
use std::time::Duration;

use psentry_control::ControlError;
use psentry_ports::PortsFileError;
use psentry_records::IgnoreError;
use psentry_stage::{Exit, Failure, PortsError};

/// Why psentry-trap ends.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrapError {
    /// A list of ports is wrong.
    #[error("{flag}: {source}")]
    Ports {
        /// The flag that has the list.
        flag: &'static str,
        /// What is wrong with the list.
        source: PortsError,
    },
    /// `--tcp-ports`, `--udp-ports` and `--except` together leave no port.
    #[error("--tcp-ports, --udp-ports and --except leave no port to watch; leave one of them out")]
    NoPortLeft,
    /// `--quarantine` is longer than this, the longest that there is.
    #[error(
        "--quarantine is at most {}s, because a forged packet shuts its victim out for as long; psentry-judge makes longer blocks",
        .0.as_secs()
    )]
    QuarantineLong(Duration),
    /// A file of `--allow` is unreadable or wrong.
    #[error("--allow: {0}")]
    Allow(#[source] IgnoreError),
    /// The file of ports is wrong.
    #[error(transparent)]
    PortsFile(#[from] PortsFileError),
    /// The program nft is not installed.
    #[error("psentry-trap needs the program 'nft', which is not installed; install nftables")]
    NoNft,
    /// This process does not have CAP_NET_ADMIN.
    #[error("psentry-trap needs CAP_NET_ADMIN; run it as root, or with AmbientCapabilities=CAP_NET_ADMIN")]
    NotPermitted,
    /// Another program is bound to this group of NFLOG.
    #[error(
        "another program reads NFLOG group {0}; is psentry-trap running already? If not, choose another --group"
    )]
    GroupTaken(u16),
    /// The kernel has no NFLOG.
    #[error(
        "this kernel cannot log packets to programs; it needs nfnetlink_log (CONFIG_NETFILTER_NETLINK_LOG)"
    )]
    NoNflog,
    /// The control socket cannot be had.
    #[error("--control {0}")]
    Control(#[from] ControlError),
    /// A command got no answer, or the answer is no.
    #[error("{1}")]
    Unanswered(Exit, String),
    /// The kernel or nft did not do what was asked.
    #[error(transparent)]
    Kernel(#[from] psentry_linux::Error),
    /// nft did not load the rules, because a privilege is missing.
    #[error("{0}; psentry-trap needs CAP_NET_ADMIN")]
    Refused(psentry_linux::Error),
    /// The worker ended on its own, in this way.
    #[error("the process that reads packets ended ({0}); the rules are removed")]
    WorkerEnded(String),
    /// A system call that should not fail failed: what it was for, and why.
    #[error("cannot {0}: {1}")]
    System(&'static str, #[source] io::Error),
    /// In the worker: the reader of the records is gone.
    #[error("the reader of standard output is gone; start it again, and psentry-trap with it")]
    ReaderGone,
    /// In the monitor: the worker ended because the reader of the records is gone, or does not read.
    #[error("the rules are removed, because nobody reads what psentry-trap writes")]
    OutputGone,
    /// Standard output cannot be written.
    #[error("cannot write probes to standard output: {0}")]
    Output(#[source] io::Error),
}

impl Failure for TrapError {
    fn exit(&self) -> Exit {
        match self {
            TrapError::Ports { .. } => Exit::Usage,
            TrapError::NoPortLeft
            | TrapError::QuarantineLong(_)
            | TrapError::Allow(_)
            | TrapError::PortsFile(_) => Exit::Config,
            TrapError::Unanswered(exit, _) => *exit,
            TrapError::Control(ControlError::NotASocket { .. }) => Exit::Usage,
            TrapError::Control(ControlError::File { why, .. })
                if why.kind() != io::ErrorKind::PermissionDenied =>
            {
                Exit::Io
            }
            TrapError::Control(ControlError::File { .. }) => Exit::NoPermission,
            TrapError::NoNft | TrapError::NoNflog | TrapError::GroupTaken(_) => Exit::Unavailable,
            TrapError::NotPermitted | TrapError::Refused(_) => Exit::NoPermission,
            TrapError::Kernel(error) if error.is_permission() => Exit::NoPermission,
            TrapError::Kernel(_)
            | TrapError::WorkerEnded(_)
            | TrapError::System(..)
            | TrapError::Control(_) => Exit::Os,
            TrapError::ReaderGone | TrapError::OutputGone | TrapError::Output(_) => Exit::Io,
        }
    }
}

/// What writing a record may fail with.
impl From<io::Error> for TrapError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => TrapError::ReaderGone,
            _ => TrapError::Output(error),
        }
    }
}

/// An error of nft, which says EPERM in words only.
pub(crate) fn of_nft(error: psentry_linux::Error) -> TrapError {
    match &error {
        psentry_linux::Error::Program { stderr, .. } if stderr.contains("Operation not permitted") => {
            TrapError::Refused(error)
        }
        _ => TrapError::Kernel(error),
    }
}
