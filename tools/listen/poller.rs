//! epoll(7): which descriptors are ready, named by [`Token`].

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// How many events are taken at a time. All others wait in the kernel and are next.
const EVENTS: usize = 256;

/// Which descriptor an event is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// The signals that ask the program to end.
    Stop,
    /// The signal that asks for the counters.
    Report,
    /// Standard output; it is ready only when its reader is gone.
    Reader,
    /// The decoy of that number.
    Decoy(u64),
    /// The held connection of that number.
    Connection(u64),
}

impl Token {
    fn into_u64(self) -> u64 {
        match self {
            Token::Stop => 0,
            Token::Reader => 1,
            Token::Report => 1 << 2,
            Token::Decoy(number) => number << 2 | 2,
            Token::Connection(number) => number << 2 | 3,
        }
    }

    fn from_u64(data: u64) -> Self {
        match (data & 3, data >> 2) {
            (0, 0) => Token::Stop,
            (0, _) => Token::Report,
            (1, _) => Token::Reader,
            (2, number) => Token::Decoy(number),
            (_, number) => Token::Connection(number),
        }
    }
}

/// An epoll instance, and room for what it returns.
pub(crate) struct Poller {
    epoll: Epoll,
    events: Vec<EpollEvent>,
}

impl Poller {
    /// Polls nothing yet.
    ///
    /// # Errors
    /// epoll_create1(2)'s.
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Poller { epoll, events: vec![EpollEvent::empty(); EVENTS] })
    }

    /// Polls `fd` from now on for something to read.
    ///
    /// # Errors
    /// epoll_ctl(2)'s, as of the next ones.
    pub(crate) fn add(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        Ok(self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token.into_u64()))?)
    }

    /// Polls `fd` from now on for its error alone. A file that cannot be polled (EPERM) cannot break either.
    pub(crate) fn add_for_errors(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        match self.epoll.add(fd, EpollEvent::new(EpollFlags::empty(), token.into_u64())) {
            Err(Errno::EPERM) => Ok(()),
            result => Ok(result?),
        }
    }

    /// Does not poll `fd` until [`resume`](Self::resume).
    pub(crate) fn rest(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        self.modify(fd, token, EpollFlags::empty())
    }

    /// Polls `fd` again for something to read.
    pub(crate) fn resume(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        self.modify(fd, token, EpollFlags::EPOLLIN)
    }

    /// Does not poll `fd` any more.
    pub(crate) fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(self.epoll.delete(fd)?)
    }

    fn modify(&self, fd: impl AsFd, token: Token, flags: EpollFlags) -> io::Result<()> {
        // `modify` wants the event to be changeable, and does not change it.
        let mut event = EpollEvent::new(flags, token.into_u64());
        Ok(self.epoll.modify(fd, &mut event)?)
    }

    /// Waits at most `patience` (`None`: for ever) and puts into `tokens` what is ready.
    ///
    /// # Errors
    /// epoll_wait(2)'s, except an interruption, which is a wait that was short.
    pub(crate) fn wait(&mut self, patience: Option<Duration>, tokens: &mut Vec<Token>) -> io::Result<()> {
        tokens.clear();
        let count = match self.epoll.wait(&mut self.events, timeout(patience)) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(errno) => return Err(errno.into()),
        };
        tokens.extend(self.events.iter().take(count).map(|event| Token::from_u64(event.data())));
        Ok(())
    }
}

/// Milliseconds rounded up, so that waiting for a deadline never spins just before it.
fn timeout(patience: Option<Duration>) -> EpollTimeout {
    let Some(patience) = patience else { return EpollTimeout::NONE };
    let millis = patience.as_nanos().div_ceil(1_000_000);
    EpollTimeout::try_from(millis).unwrap_or(EpollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn tokens_survive_the_kernel() {
        for token in [
            Token::Stop,
            Token::Report,
            Token::Reader,
            Token::Decoy(0),
            Token::Decoy(65_535),
            Token::Connection(1 << 61),
        ] {
            assert_eq!(Token::from_u64(token.into_u64()), token);
        }
    }

    #[test]
    fn a_deadline_is_never_early() {
        assert_eq!(timeout(Some(Duration::from_micros(1))), EpollTimeout::from(1u8));
        assert_eq!(timeout(Some(Duration::ZERO)), EpollTimeout::ZERO);
        assert_eq!(timeout(Some(Duration::MAX)), EpollTimeout::MAX);
        assert_eq!(timeout(None), EpollTimeout::NONE);
    }

    #[test]
    fn a_resting_descriptor_is_not_ready_until_it_is_resumed() {
        let (reader, mut writer) = UnixStream::pair().unwrap();
        let mut poller = Poller::new().unwrap();
        let mut tokens = Vec::new();
        poller.add(&reader, Token::Decoy(7)).unwrap();
        writer.write_all(b"x").unwrap();
        poller.rest(&reader, Token::Decoy(7)).unwrap();
        poller.wait(Some(Duration::ZERO), &mut tokens).unwrap();
        assert_eq!(tokens, []);
        poller.resume(&reader, Token::Decoy(7)).unwrap();
        poller.wait(None, &mut tokens).unwrap();
        assert_eq!(tokens, [Token::Decoy(7)]);
    }

    #[test]
    fn a_reader_that_left_is_found_without_a_write() {
        let (reader, writer) = UnixStream::pair().unwrap();
        let mut poller = Poller::new().unwrap();
        let mut tokens = Vec::new();
        poller.add_for_errors(&writer, Token::Reader).unwrap();
        poller.add_for_errors(std::fs::File::open("/proc/version").unwrap(), Token::Stop).unwrap();
        poller.wait(Some(Duration::ZERO), &mut tokens).unwrap();
        assert_eq!(tokens, []);
        drop(reader);
        poller.wait(None, &mut tokens).unwrap();
        assert_eq!(tokens, [Token::Reader]);
    }
}
