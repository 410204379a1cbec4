//! What an error of accept(2) or recvmsg(2) costs: one connection, a pause, or the socket. None of them ends the
//! program: whoever could make it end by an error could switch the decoys off.

use std::time::Duration;

use nix::errno::Errno;

/// How long a socket rests when the system is short of what it needs. Shorter spins, longer is blind.
pub(crate) const PAUSE: Duration = Duration::from_millis(200);

/// What to do after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setback {
    /// Nothing waits any more: no error at all.
    Drained,
    /// Interrupted: try again at once.
    Again,
    /// This one visitor is lost: report it and go on.
    Visitor,
    /// The system is short of something, or forbids it for now: report it, and rest for [`PAUSE`].
    Pause,
    /// Descriptors ran out: the same, and hold fewer connections from now on.
    Shortage,
    /// The socket itself is no use any more: report it and let go of it.
    Broken,
}

impl Setback {
    /// The table. accept(2) says which errors belong to the visitor; what it does not name may stay as it is when
    /// tried again, so that only a pause keeps it from spinning.
    pub(crate) fn of(errno: Errno) -> Self {
        match errno {
            Errno::EAGAIN => Setback::Drained,
            Errno::EINTR => Setback::Again,
            Errno::ECONNABORTED
            | Errno::ECONNRESET
            | Errno::ECONNREFUSED
            | Errno::EPROTO
            | Errno::ENETDOWN
            | Errno::ENOPROTOOPT
            | Errno::EHOSTDOWN
            | Errno::ENONET
            | Errno::EHOSTUNREACH
            | Errno::EOPNOTSUPP
            | Errno::ENETUNREACH
            | Errno::ETIMEDOUT => Setback::Visitor,
            Errno::EMFILE => Setback::Shortage,
            Errno::EBADF | Errno::ENOTSOCK | Errno::EINVAL | Errno::EFAULT => Setback::Broken,
            // ENFILE, ENOBUFS, ENOMEM, EPERM, EACCES, and whatever a later kernel adds.
            _ => Setback::Pause,
        }
    }

    /// What it costs, for a sentence.
    pub(crate) fn cost(self) -> &'static str {
        match self {
            Setback::Drained | Setback::Again => "nothing is lost",
            Setback::Visitor => "one visitor is lost",
            Setback::Pause | Setback::Shortage => "visitors wait a moment",
            Setback::Broken => "it is no decoy any more until psentry-listen is started again",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_accept_names_are_waited_out() {
        for errno in [Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM, Errno::EPERM, Errno::EIO] {
            assert_eq!(Setback::of(errno), Setback::Pause, "{errno}");
        }
        assert_eq!(Setback::of(Errno::EMFILE), Setback::Shortage);
        for errno in [Errno::ECONNABORTED, Errno::EPROTO, Errno::EHOSTUNREACH, Errno::ENONET] {
            assert_eq!(Setback::of(errno), Setback::Visitor, "{errno}");
        }
    }

    #[test]
    fn only_a_socket_that_is_none_is_given_up() {
        let broken: Vec<Errno> =
            (1..134).map(Errno::from_raw).filter(|&errno| Setback::of(errno) == Setback::Broken).collect();
        // In the order of their numbers.
        assert_eq!(broken, [Errno::EBADF, Errno::EFAULT, Errno::EINVAL, Errno::ENOTSOCK]);
    }
}
