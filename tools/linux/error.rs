//! Errors of netlink, of system calls and of programs, as sentences.

use std::sync::Arc;
use std::{io, time::Duration};

use nix::errno::Errno;

/// Why the kernel, or a program, did not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A program exited with a status other than 0, was killed by a signal, or kept its output open.
    #[error("'{program}' failed ({status}): {stderr}")]
    Program {
        /// Its name, as the caller gave it.
        program: String,
        /// Its exit status or signal, in words.
        status: String,
        /// Its exit code; `None`: a signal killed it.
        code: Option<i32>,
        /// The end of its standard error, without control characters.
        stderr: String,
    },
    /// A program could not be started, so it changed nothing.
    #[error("'{program}' could not be run: {why}")]
    NotStarted {
        /// Its name, as the caller gave it.
        program: String,
        /// The error of fork(2) or execve(2).
        why: Arc<io::Error>,
    },
    /// A program did not end in time and was killed. What it had changed by then is not known.
    #[error("'{program}' did not end within {} s", limit.as_secs_f64())]
    TimedOut {
        /// Its name, as the caller gave it.
        program: String,
        /// The time that it had.
        limit: Duration,
    },
    /// The kernel refused a request over netlink.
    #[error("the kernel refused to {doing}: {}", .errno.desc())]
    Refused {
        /// What was asked for, as a verb and its object.
        doing: &'static str,
        /// The error number of its answer.
        errno: Errno,
    },
    /// The kernel did not answer a netlink request in time, or its answer could not be read.
    #[error("the kernel gave no answer that can be understood when asked to {doing}: {why}")]
    Netlink {
        /// What was asked for, as a verb and its object.
        doing: &'static str,
        /// What is wrong with the answer, or that there is none.
        why: String,
    },
    /// A system call failed, mostly that which opens a netlink socket.
    #[error("cannot {doing}: {why}")]
    System {
        /// What was tried, as a verb and its object.
        doing: &'static str,
        /// The error of the system call.
        why: Arc<io::Error>,
    },
}

/// What iptables and ipset print where the kernel lacks their modules.
const UNSUPPORTED_MESSAGES: [&str; 5] = [
    "Address family not supported",
    "Table does not exist",
    "Protocol not supported",
    "Protocol not available",
    "Cannot open session to kernel",
];

impl Error {
    /// For `map_err`: turns the error of a system call into [`Error::System`].
    pub fn system(doing: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |why| Error::System { doing, why: Arc::new(why) }
    }

    /// Whether the caller lacks a right, nearly always CAP_NET_ADMIN.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        match self {
            Error::Refused { errno, .. } => matches!(errno, Errno::EPERM | Errno::EACCES),
            Error::System { why, .. } => why.kind() == std::io::ErrorKind::PermissionDenied,
            _ => false,
        }
    }

    /// Whether this machine lacks the feature that was asked for, so there can be no rule, set or entry of it either. A
    /// program that could not list them, because another process held its lock, is no such case.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        let lacks = |errno: Errno| {
            use Errno::{EAFNOSUPPORT, ENOPROTOOPT, ENOSYS, EOPNOTSUPP, EPROTONOSUPPORT};
            [EAFNOSUPPORT, ENOPROTOOPT, ENOSYS, EOPNOTSUPP, EPROTONOSUPPORT].contains(&errno)
        };
        match self {
            Error::Refused { errno, .. } => lacks(*errno),
            Error::System { why, .. } => why.raw_os_error().is_some_and(|code| lacks(Errno::from_raw(code))),
            Error::Program { stderr, .. } => {
                UNSUPPORTED_MESSAGES.iter().any(|message| stderr.contains(message))
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_missing_feature_is_unsupported() {
        let program = |code: i32, stderr: &str| Error::Program {
            program: "iptables".to_owned(),
            status: format!("exit status: {code}"),
            code: Some(code),
            stderr: stderr.to_owned(),
        };
        let table = "can't initialize iptables table `filter': Table does not exist (do you need to insmod?)";
        assert!(program(3, table).is_unsupported());
        assert!(!program(4, "Another app is currently holding the xtables lock.").is_unsupported());
        assert!(Error::Refused { doing: "x", errno: Errno::EPROTONOSUPPORT }.is_unsupported());
        assert!(!Error::Refused { doing: "x", errno: Errno::ENOMEM }.is_unsupported());
        assert!(!Error::TimedOut { program: "nft".to_owned(), limit: Duration::ZERO }.is_unsupported());
    }
}
