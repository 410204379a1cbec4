//! The thread that brings the journal onto the disk, tries again what could not be written, and writes the journal anew when
//! it has grown to twice its useful size. Whatever it waits for, the engine does not.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use psentry_records::Timestamp;
use psentry_stage::sync_folder;

use super::Journal;
use super::file::{JournalFile, LONGEST};
use super::format::Recorded;
use crate::error::Error;

/// How often at most it is brought onto the disk: a block a second apart is, ten thousand at once are in one go.
pub(super) const PAUSE: Duration = Duration::from_millis(200);
/// How soon what could not be written is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How soon it is tried again to write it anew, which may take the last room of a disk for a moment.
const RETRY_ANEW: Duration = Duration::from_secs(60);
/// How much is kept that could not be written, in bytes. After more of it, only all that counts can be written.
pub(super) const BACKLOG: usize = 16 << 20;
/// How much a journal grows before it is written anew: as much as is useful in it, but at least and at most so much.
pub(super) const SHORT: u64 = 64 * 1024;
const MOST: u64 = LONGEST / 8;

/// Where messages go.
type Say = Box<dyn Fn(&str) + Send + Sync>;

/// What the engine and the thread share.
pub(super) struct Shared {
    path: PathBuf,
    say: Say,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    /// `None`: it could not be opened yet.
    file: Option<JournalFile>,
    /// What could not be written, in its order, as long as that is less than [`BACKLOG`].
    pub(super) backlog: Vec<u8>,
    /// Whether something was written that is not yet on the disk.
    pub(super) dirty: bool,
    /// How long it was when only what counts was in it.
    useful: u64,
    /// What does not count in it is to go, however short it is.
    pub(super) stale: bool,
    /// Whether the engine knows all that it is to hold.
    pub(super) is_whole: bool,
    /// All that it is to hold from a moment on, by which it is to be written anew.
    anew: Option<(Recorded, Timestamp)>,
    /// What was written since that was given, until it is written anew; `None`: it is not going to be.
    since: Option<Vec<u8>>,
    /// When it could not be written anew.
    stuck: Option<Instant>,
    /// Why nothing can be written, once that has been told.
    failing: Option<String>,
    ended: bool,
    /// How often it was brought onto the disk.
    #[cfg(test)]
    pub(super) syncs: u32,
}

impl Shared {
    /// `is_whole`: all that is in it was read.
    pub(super) fn new(
        path: PathBuf,
        file: Option<JournalFile>,
        is_whole: bool,
        say: impl Fn(&str) + Send + Sync + 'static,
    ) -> Self {
        let state = State { file, is_whole, ..State::default() };
        Shared { path, say: Box::new(say), state: Mutex::new(state), changed: Condvar::new() }
    }

    /// The thread.
    pub(super) fn start(shared: &Arc<Self>) -> Result<JoinHandle<()>, Error> {
        let shared = Arc::clone(shared);
        let thread = thread::Builder::new().name("journal".to_owned());
        thread.spawn(move || shared.flush()).map_err(Error::system("start a thread"))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes lines, or keeps them.
    pub(super) fn write(&self, text: &[u8]) {
        let mut state = self.lock();
        // While it is dirty the thread looks again by itself: no need to wake it for each entry.
        let waits = !state.dirty;
        state.since.iter_mut().for_each(|since| since.extend_from_slice(text));
        // Writing it anew takes too long for that: it is begun again.
        state.stale |= state.since.take_if(|since| since.len() > BACKLOG).is_some();
        let kept = !state.backlog.is_empty();
        let failed = if kept { None } else { state.append(&self.path, text).err() };
        if (kept || failed.is_some()) && !state.is_over() {
            state.backlog.extend_from_slice(text);
        }
        failed.iter().for_each(|error| self.fails(&mut state, error));
        if waits {
            self.changed.notify_one();
        }
    }

    /// Works until the engine has ended.
    fn flush(&self) {
        let mut tried = Instant::now();
        loop {
            let mut state = self.lock();
            while !state.dirty && state.anew.is_none() && !state.ended {
                if state.failing.is_none() {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                } else if tried.elapsed() >= RETRY {
                    tried = Instant::now();
                    self.catch_up(&mut state);
                } else {
                    let woken = self.changed.wait_timeout(state, RETRY);
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
            let _ = self.changed.wait_timeout_while(self.lock(), PAUSE, |state| !state.ended);
        }
    }

    /// Writes what could not be written before.
    fn catch_up(&self, state: &mut State) {
        if state.failing.is_none() {
            return;
        }
        // Where not all of it was kept, only all that counts can be written, once the file is open.
        let text = if state.is_over() { Vec::new() } else { std::mem::take(&mut state.backlog) };
        match state.append(&self.path, &text) {
            // Whether what was written before is on the disk is not known yet.
            Ok(()) if text.is_empty() => {}
            Ok(()) => self.works(state),
            Err(error) => {
                state.backlog.extend(text);
                self.fails(state, &error);
            }
        }
    }

    /// Brings what was written onto the disk, without holding up who writes more.
    fn sync(&self) {
        let mut state = self.lock();
        let handle = state.file.as_ref().filter(|_| state.dirty).map(JournalFile::handle);
        state.dirty = false;
        drop(state);
        let Some(handle) = handle else { return };
        let synced = handle.and_then(|file| file.sync_data());
        let mut state = self.lock();
        #[cfg(test)]
        {
            state.syncs += 1;
        }
        match synced {
            Err(why) => self.fails(&mut state, &Error::file(&self.path, "bring it onto the disk")(why)),
            Ok(()) if state.backlog.is_empty() => self.works(&mut state),
            Ok(()) => {}
        }
    }

    /// Writes the journal anew, if the engine has given what it is to hold.
    fn shorten(&self) {
        let Some((all, now)) = self.lock().anew.take() else { return };
        let written = JournalFile::beside(&self.path, &all.text(now));
        let mut state = self.lock();
        // Meanwhile too much was written, or the engine has given something newer.
        let is_newest = state.anew.is_none();
        let Some(since) = state.since.take_if(|_| is_newest) else { return };
        let replaced = written.and_then(|(mut file, replacement)| {
            let useful = file.len();
            file.append(&since)?;
            replacement.rename().map_err(Error::file(&self.path, "write it anew"))?;
            (state.file, state.useful, state.dirty) = (Some(file), useful, true);
            Ok(())
        });
        match replaced {
            Ok(()) => {
                state.stuck = None;
                self.works(&mut state);
                drop(state);
                // The directory is what names it. An error is one of the disk, which the next sync meets.
                let _ = sync_folder(&self.path);
            }
            Err(error) => {
                state.stale = true;
                if state.stuck.replace(Instant::now()).is_none() {
                    (self.say)(&format!("the journal stays longer than it need be: {error}"));
                }
            }
        }
    }

    /// What cannot be written is told once, until it can be.
    pub(super) fn fails(&self, state: &mut State, error: &Error) {
        if state.failing.replace(error.to_string()).is_none() {
            (self.say)(&format!(
                "{error}; blocking goes on, but what is blocked from now on is not remembered"
            ));
        }
    }

    /// All that was to be written is.
    fn works(&self, state: &mut State) {
        state.backlog.clear();
        if state.failing.take().is_some() {
            (self.say)(&format!("{}: what is blocked is remembered again", self.path.display()));
        }
    }
}

impl Journal {
    /// Has it written anew, at the moment `now`: this is all that it is to hold.
    pub(crate) fn write_anew(&self, all: Recorded, now: Timestamp) {
        let mut state = self.shared.lock();
        (state.anew, state.since, state.stale) = (Some((all, now)), Some(Vec::new()), false);
        self.shared.changed.notify_one();
    }

    /// What is wrong with it, as a sentence; `None`: what is wanted is remembered.
    pub(crate) fn trouble(&self) -> Option<String> {
        let state = self.shared.lock();
        let lost = match state.backlog.iter().filter(|byte| **byte == b'\n').count() {
            0 => String::new(),
            1 => "; 1 change is not remembered".to_owned(),
            count => format!("; {count} changes are not remembered"),
        };
        state.failing.as_ref().map(|why| format!("{why}{lost}"))
    }
}

impl Drop for Journal {
    /// All that was written is on the disk, as far as the disk takes it.
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_one();
        if let Some(flusher) = self.flusher.take() {
            let _ = flusher.join();
        }
    }
}

impl State {
    /// Whether it is to be written anew.
    pub(super) fn is_due(&self) -> bool {
        let Some(file) = self.file.as_ref().filter(|_| self.is_whole) else { return false };
        let is_stuck = self.stuck.is_some_and(|tried| tried.elapsed() < RETRY_ANEW);
        let is_long = || file.len() > self.useful + self.useful.clamp(SHORT, MOST);
        !is_stuck && (self.stale || self.since.is_none() && (self.is_over() || is_long()))
    }

    /// Whether not all could be kept that could not be written.
    fn is_over(&self) -> bool {
        self.backlog.len() >= BACKLOG
    }

    fn append(&mut self, path: &Path, text: &[u8]) -> Result<(), Error> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let file = JournalFile::open(path)?;
                // Whatever could not be read before, nothing of it is in this one.
                self.is_whole |= file.len() == 0;
                none.insert(file)
            }
        };
        file.append(text)?;
        self.dirty = true;
        Ok(())
    }
}
