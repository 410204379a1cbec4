//! What an error of accept(2) or recvmsg(2) costs: one connection, a pause, or the socket. None of them ends the
//! program: whoever could make it end by an error could switch the decoys off.

use std::time::Duration;

use nix::errno::Errno;

/// How long a socket rests when the system is short of what it needs. Shorter spins, longer is blind.
pub(crate) const PAUSE: Duration = Duration::from_millis(200);

/// What an error asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AcceptError {
    /// Nothing waits any more: no error at all.
    WouldBlock,
    /// A signal came in between: try again at once.
    Interrupted,
    /// The connection failed before it was accepted: report it and go on.
    Client,
    /// The system is short of something, or forbids it for now: report it, and rest for [`PAUSE`].
    Resources,
    /// Descriptors ran out: the same, and hold fewer connections from now on.
    Descriptors,
    /// The socket itself is no use any more: report it and close it.
    Broken,
}

impl AcceptError {
    /// The table. accept(2) says which errors are the client's; what it does not name may stay as it is when
    /// tried again, so that only a pause keeps it from spinning.
    pub(crate) fn of(errno: Errno) -> Self {
        match errno {
            Errno::EAGAIN => AcceptError::WouldBlock,
            Errno::EINTR => AcceptError::Interrupted,
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
            | Errno::ETIMEDOUT => AcceptError::Client,
            Errno::EMFILE => AcceptError::Descriptors,
            Errno::EBADF | Errno::ENOTSOCK | Errno::EINVAL | Errno::EFAULT => AcceptError::Broken,
            // ENFILE, ENOBUFS, ENOMEM, EPERM, EACCES, and whatever a later kernel adds.
            _ => AcceptError::Resources,
        }
    }

    /// What it costs, as the end of a sentence.
    pub(crate) fn cost(self) -> &'static str {
        match self {
            AcceptError::WouldBlock | AcceptError::Interrupted => "nothing is lost",
            AcceptError::Client => "one client is lost",
            AcceptError::Resources | AcceptError::Descriptors => "clients wait a moment",
            AcceptError::Broken => "it is no decoy any more until psentry-listen is started again",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_accept_names_are_waited_out() {
        for errno in [Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM, Errno::EPERM, Errno::EIO] {
            assert_eq!(AcceptError::of(errno), AcceptError::Resources, "{errno}");
        }
        assert_eq!(AcceptError::of(Errno::EMFILE), AcceptError::Descriptors);
        for errno in [Errno::ECONNABORTED, Errno::EPROTO, Errno::EHOSTUNREACH, Errno::ENONET] {
            assert_eq!(AcceptError::of(errno), AcceptError::Client, "{errno}");
        }
    }

    #[test]
    fn only_a_socket_that_is_none_is_given_up() {
        let broken: Vec<Errno> = (1..134)
            .map(Errno::from_raw)
            .filter(|&errno| AcceptError::of(errno) == AcceptError::Broken)
            .collect();
        // In the order of their numbers.
        assert_eq!(broken, [Errno::EBADF, Errno::EFAULT, Errno::EINVAL, Errno::ENOTSOCK]);
    }
}
