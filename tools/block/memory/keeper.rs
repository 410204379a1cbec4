//! The thread that brings a journal onto the disk, tries again what could not be written, and writes the journal anew
//! when it has grown to twice its useful size. Whatever it waits for, the worker does not.

use std::sync::PoisonError;
use std::time::Instant;

use psentry_records::Timestamp;
use psentry_stage::sync_folder;

use super::journal::Anew;
use super::{Journal, PAUSE, RETRY, SHORT, Shared, State};
use crate::error::Error;
use crate::lock::Lock;

impl Shared {
    /// Works until the worker has ended.
    pub(super) fn keep(&self) {
        let mut tried = Instant::now();
        loop {
            let mut state = self.lock();
            while !state.dirty && !state.ended {
                if state.backlog.is_empty() && state.failing.is_none() {
                    state = self.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
                } else if tried.elapsed() >= RETRY {
                    tried = Instant::now();
                    self.catch_up(&mut state);
                } else {
                    let woken = self.bell.wait_timeout(state, RETRY);
                    state = woken.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
            let ended = state.ended;
            if ended {
                self.catch_up(&mut state);
            }
            drop(state);
            self.sync();
            self.shorten();
            if ended {
                return;
            }
            // The end is not waited for.
            let _ = self.bell.wait_timeout_while(self.lock(), PAUSE, |state| !state.ended);
        }
    }

    /// Writes what could not be written before.
    fn catch_up(&self, state: &mut State) {
        let backlog = std::mem::take(&mut state.backlog);
        // Whatever went wrong, all that was to be written may have been: then it is only brought onto the disk.
        if backlog.is_empty() && state.failing.is_none() {
            return;
        }
        let empty = backlog.is_empty();
        match self.write(state, backlog.iter().map(|(scope, block)| (*scope, block.as_ref()))) {
            // Whether it is on the disk is not known yet.
            Ok(()) if empty => {}
            Ok(()) => self.works(state),
            Err(error) => {
                state.backlog = backlog;
                self.fails(state, &error);
            }
        }
    }

    /// Brings what was written onto the disk, without holding up who writes more.
    fn sync(&self) {
        let mut state = self.lock();
        let handle = state.journal.as_ref().filter(|_| state.dirty).map(Journal::handle);
        state.dirty = false;
        drop(state);
        let Some(handle) = handle else { return };
        #[cfg(test)]
        self.syncs.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if let Err(why) = handle.and_then(|file| file.sync_data()) {
            let error = Error::file(&self.path, "bring it onto the disk")(why);
            self.fails(&mut self.lock(), &error);
        } else {
            let mut state = self.lock();
            if state.backlog.is_empty() {
                self.works(&mut state);
            }
        }
    }

    /// Writes the journal anew if most of it is of no use any more.
    fn shorten(&self) {
        let (read, limit) = {
            let state = self.lock();
            let len = state.journal.as_ref().map_or(0, Journal::len);
            (len, state.useful.saturating_mul(2).max(SHORT))
        };
        if read <= limit {
            return;
        }
        let result = self.write_anew();
        let mut state = self.lock();
        // What failed is tried again when it has grown so much more.
        state.useful = result.as_ref().map_or(read, |useful| *useful);
        if let Err(error) = result {
            self.reporter.say(&format!("the memory of blocks stays longer than it need be: {error}"));
        }
    }

    fn write_anew(&self) -> Result<u64, Error> {
        let Some(directory) = self.path.parent() else { return Ok(0) };
        // No command adds to it meanwhile; the worker does, and that goes along.
        let _lock = Lock::directory(directory)?;
        let read = self.lock().journal.as_ref().map_or(0, Journal::len);
        let anew = Anew::of(&self.path, read, Timestamp::now())?;
        let mut state = self.lock();
        let Some(journal) = &mut state.journal else { return Ok(0) };
        // What goes along need not be of use.
        let useful = anew.useful;
        journal.replace(anew, read)?;
        state.dirty = true;
        drop(state);
        // The directory is what names it.
        sync_folder(&self.path).map_err(Error::file(directory, "bring it onto the disk"))?;
        Ok(useful)
    }
}
