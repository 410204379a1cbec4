//! Changes that are made beside each other: at most so many, each in a thread of its own, so that a command that takes long
//! holds up no other. A bell tells that one is over.

use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use nix::sys::eventfd::{EfdFlags, EventFd};
use psentry_records::Timestamp;

use super::commands::Commands;
use crate::backend::{Change, Effect};
use crate::error::Error;

/// A change that is over, and what it came to.
pub(super) type Over = (Change, Result<Effect, Error>);

/// Those that are under way.
pub(super) struct Jobs {
    most: usize,
    under_way: usize,
    tell: Sender<Over>,
    told: Receiver<Over>,
    bell: Arc<EventFd>,
}

impl Jobs {
    /// At most `most` at a time.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub(super) fn new(most: usize) -> Result<Self, Error> {
        let (tell, told) = channel();
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let bell = EventFd::from_flags(flags).map_err(|e| Error::system("make a bell")(e.into()))?;
        Ok(Jobs { most, under_way: 0, tell, told, bell: Arc::new(bell) })
    }

    /// How many more may begin.
    pub(super) fn room(&self) -> usize {
        self.most.saturating_sub(self.under_way)
    }

    /// Begins one.
    pub(super) fn begin(&mut self, commands: &Arc<Commands>, change: &Change, now: Timestamp) {
        self.under_way += 1;
        let job = || {
            let (commands, change) = (Arc::clone(commands), change.clone());
            let (tell, bell) = (self.tell.clone(), Arc::clone(&self.bell));
            move || {
                let result = catch_unwind(AssertUnwindSafe(|| commands.change(&change, now)));
                let broke = "the change broke; this is a bug of psentry";
                let result = result.unwrap_or_else(|_| Err(Error::Unfinished(broke.to_owned())));
                let _ = tell.send((change, result));
                let _ = bell.write(1);
            }
        };
        // Without a thread it is made here, and the others wait for it.
        if thread::Builder::new().name("exec: job".to_owned()).spawn(job()).is_err() {
            job()();
        }
    }

    /// Those that are over since the last call. Never waits.
    pub(super) fn over(&mut self) -> Vec<Over> {
        // The bell first: whoever rings has told before.
        let _ = self.bell.read();
        let over: Vec<Over> = self.told.try_iter().collect();
        self.under_way = self.under_way.saturating_sub(over.len());
        over
    }

    /// Waits for one to be over; `None`: none is under way.
    pub(super) fn wait(&mut self) -> Option<Over> {
        if self.under_way == 0 {
            return None;
        }
        // Each tells when it is over, whatever becomes of it.
        let over = self.told.recv().ok();
        self.under_way -= 1;
        over
    }

    /// Readable once one is over.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
