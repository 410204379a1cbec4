//! What can go wrong between a stage and the kernel, as sentences.

use std::sync::Arc;
use std::{io, time::Duration};

use nix::errno::Errno;

/// Why the kernel, or a program that changes it, did not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
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
    #[error("'{program}' did not end within {} s", limit.as_secs_f64())]
    TooSlow {
        /// Its name.
        program: String,
        /// The time that it had.
        limit: Duration,
    },
    /// The kernel refused a request over netlink.
    #[error("the kernel refused to {doing}: {}", .errno.desc())]
    Refused {
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
    /// For `map_err`: an error of a system call.
    pub fn system(doing: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |why| Error::System { doing, why: Arc::new(why) }
    }

    /// Whether it is a right that lacks: CAP_NET_ADMIN, nearly always.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        matches!(self, Error::Refused { errno: Errno::EPERM | Errno::EACCES, .. })
    }

    /// Whether this machine lacks what was asked for, so that nothing of it can stand here. A program that could not
    /// say what stands, because another held its lock, is no such thing.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        let lacks = |errno: Errno| {
            use Errno::{EAFNOSUPPORT, ENOPROTOOPT, ENOSYS, EOPNOTSUPP, EPROTONOSUPPORT};
            [EAFNOSUPPORT, ENOPROTOOPT, ENOSYS, EOPNOTSUPP, EPROTONOSUPPORT].contains(&errno)
        };
        match self {
            Error::Refused { errno, .. } => lacks(*errno),
            Error::System { why, .. } => why.raw_os_error().is_some_and(|code| lacks(Errno::from_raw(code))),
            Error::Program { said, .. } => UNSUPPORTED.iter().any(|words| said.contains(words)),
            _ => false,
        }
    }
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
        assert!(Error::Refused { doing: "x", errno: Errno::EPROTONOSUPPORT }.is_unsupported());
        assert!(!Error::Refused { doing: "x", errno: Errno::ENOMEM }.is_unsupported());
        assert!(!Error::TooSlow { program: "nft".to_owned(), limit: Duration::ZERO }.is_unsupported());
    }
}
