//! A descriptor that one thread rings and another one waits for, beside whatever else it waits for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use nix::sys::eventfd::{EfdFlags, EventFd};

/// A descriptor that is readable once it was rung, however often, until it is silenced.
#[derive(Clone, Debug)]
pub struct Bell(Arc<EventFd>);

impl Bell {
    /// One that is silent.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn new() -> io::Result<Self> {
        let bell = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        Ok(Bell(Arc::new(bell)))
    }

    /// Makes it readable.
    pub fn ring(&self) {
        // Refused only where it was rung 2^64 times.
        let _ = self.0.write(1);
    }

    /// Makes it silent again.
    pub fn silence(&self) {
        let _ = self.0.read();
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    #[test]
    fn it_is_readable_from_the_first_ring_until_it_is_silenced() {
        let bell = Bell::new().unwrap();
        let readable =
            || poll(&mut [PollFd::new(bell.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() == 1;
        assert!(!readable());
        bell.silence();
        bell.ring();
        bell.clone().ring();
        assert!(readable());
        bell.silence();
        assert!(!readable());
    }
}
