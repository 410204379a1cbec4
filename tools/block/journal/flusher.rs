//! The thread that brings the journal onto the disk, tries again what could not be written, and writes the journal anew when
//! it has grown to twice its useful size. Whatever it waits for, the engine does not.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use psentry_records::{Prefix, Timestamp};
use psentry_stage::sync_folder;

use super::Signalled;
use super::file::{Anew, JournalFile, open_to_read};
use super::format::{Entry, Recorded};
use crate::error::Error;

/// How often at most it is brought onto the disk: a block a second apart is, ten thousand at once are in one go.
pub(super) const PAUSE: Duration = Duration::from_millis(200);
/// How soon what could not be written is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How many changes that could not be written are kept before those are looked for that need not be.
pub(super) const BACKLOG: usize = 1 << 16;
/// A journal shorter than this is never written anew.
pub(super) const SHORT: u64 = 64 * 1024;

/// Where messages go.
type Say = Box<dyn Fn(&str) + Send>;

/// What the engine and the thread share.
pub(super) struct Shared {
    path: PathBuf,
    say: Mutex<Say>,
    inner: Signalled<State>,
}

pub(super) struct State {
    /// `None`: it could not be opened yet.
    file: Option<JournalFile>,
    /// What could not be written: the last entry of each scope, of what is wanted and of what commands did.
    pub(super) backlog: HashMap<(Prefix, bool), Entry>,
    /// At how many entries it is looked through next.
    bound: usize,
    /// Whether something was written that is not yet on the disk.
    dirty: bool,
    /// How long it was when only what counts was in it.
    useful: u64,
    /// What does not count in it is to go, however short it is.
    stale: bool,
    /// Why nothing can be written, once that has been told.
    failing: Option<String>,
    /// When it was written to last, as the engine has it.
    now: Timestamp,
    ended: bool,
    /// How often it was brought onto the disk.
    #[cfg(test)]
    syncs: u32,
}

impl Shared {
    pub(super) fn new(path: PathBuf, file: Option<JournalFile>, say: impl Fn(&str) + Send + 'static) -> Self {
        let state = State::of(file);
        let inner = Signalled { state: Mutex::new(state), changed: Condvar::new() };
        Shared { path, say: Mutex::new(Box::new(say)), inner }
    }

    /// The thread.
    pub(super) fn start(shared: &Arc<Self>) -> Result<JoinHandle<()>, Error> {
        let shared = Arc::clone(shared);
        let thread = thread::Builder::new().name("journal".to_owned());
        thread.spawn(move || shared.flush()).map_err(Error::system("start a thread"))
    }

    /// Writes entries, or keeps them.
    pub(super) fn write(&self, entries: Vec<Entry>, now: Timestamp) {
        let mut state = self.inner.lock();
        state.now = now;
        // While it is dirty the thread looks again by itself: no need to wake it for each entry.
        let waits = !state.dirty;
        let written = if state.backlog.is_empty() { state.append(&self.path, &entries) } else { Err(None) };
        if let Err(error) = written {
            state.keep(entries);
            error.iter().for_each(|error| self.fails(&mut state, error));
        }
        if waits {
            self.inner.changed.notify_one();
        }
    }

    /// Has all that was written on the disk when this returns.
    ///
    /// # Errors
    /// When it is not, or something could not be written.
    pub(super) fn sync_now(&self) -> Result<(), Error> {
        let state = self.inner.lock();
        let file = state.file.as_ref().filter(|_| state.backlog.is_empty());
        let synced = file.map(|file| file.handle().and_then(|file| file.sync_all()));
        let unwritten = || Err(io::Error::other("not all of it could be written"));
        synced.unwrap_or_else(unwritten).map_err(Error::file(&self.path, "bring it onto the disk"))?;
        sync_folder(&self.path).map_err(Error::file(&self.path, "bring it onto the disk"))
    }

    /// Has the journal written anew, however short it is.
    pub(super) fn shorten_soon(&self) {
        let mut state = self.inner.lock();
        (state.stale, state.dirty) = (true, true);
        self.inner.changed.notify_one();
    }

    pub(super) fn trouble(&self) -> Option<String> {
        let state = self.inner.lock();
        let lost = match state.backlog.len() {
            0 => String::new(),
            1 => "; 1 change is not remembered".to_owned(),
            count => format!("; {count} changes are not remembered"),
        };
        state.failing.as_ref().map(|why| format!("{why}{lost}"))
    }

    pub(super) fn end(&self) {
        self.inner.lock().ended = true;
        self.inner.changed.notify_one();
    }

    #[cfg(test)]
    pub(super) fn syncs(&self) -> u32 {
        self.inner.lock().syncs
    }

    #[cfg(test)]
    pub(super) fn is_dirty(&self) -> bool {
        self.inner.lock().dirty
    }

    /// Works until the engine has ended.
    fn flush(&self) {
        let mut tried = Instant::now();
        loop {
            let mut state = self.inner.lock();
            while !state.dirty && !state.ended {
                if state.backlog.is_empty() && state.failing.is_none() {
                    state = self.inner.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                } else if tried.elapsed() >= RETRY {
                    tried = Instant::now();
                    self.catch_up(&mut state);
                } else {
                    let woken = self.inner.changed.wait_timeout(state, RETRY);
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
            let _ = self.inner.changed.wait_timeout_while(self.inner.lock(), PAUSE, |state| !state.ended);
        }
    }

    /// Writes what could not be written before.
    fn catch_up(&self, state: &mut State) {
        if state.backlog.is_empty() && state.failing.is_none() {
            return;
        }
        let entries: Vec<Entry> = state.backlog.values().cloned().collect();
        match state.append(&self.path, &entries) {
            // Whether what was written before is on the disk is not known yet.
            Ok(()) if entries.is_empty() => {}
            Ok(()) => {
                state.backlog.clear();
                self.works(state);
            }
            Err(error) => {
                error.iter().for_each(|error| self.fails(state, error));
                state.bound_backlog(&self.path);
            }
        }
    }

    /// Brings what was written onto the disk, without holding up who writes more.
    fn sync(&self) {
        let mut state = self.inner.lock();
        let handle = state.file.as_ref().filter(|_| state.dirty).map(JournalFile::handle);
        state.dirty = false;
        drop(state);
        let Some(handle) = handle else { return };
        let synced = handle.and_then(|file| file.sync_data());
        let mut state = self.inner.lock();
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

    /// Writes the journal anew if most of it is of no use any more.
    fn shorten(&self) {
        let (read, is_due) = {
            let mut state = self.inner.lock();
            let read = state.file.as_ref().map_or(0, JournalFile::len);
            let limit = state.useful.saturating_mul(2).max(SHORT);
            (read, std::mem::take(&mut state.stale) || read > limit)
        };
        if !is_due {
            return;
        }
        let result = self.write_anew();
        // What failed is tried again when it has grown so much more.
        self.inner.lock().useful = result.as_ref().map_or(read, |useful| *useful);
        if let Err(error) = result {
            self.say(&format!("the journal stays longer than it need be: {error}"));
        }
    }

    fn write_anew(&self) -> Result<u64, Error> {
        let state = self.inner.lock();
        let Some(file) = &state.file else { return Ok(0) };
        let (old, read, now) = (file.handle(), file.len(), state.now);
        drop(state);
        let old = old.map_err(Error::file(&self.path, "write it anew"))?;
        let anew = Anew::of(&self.path, &old, read, now)?;
        let mut state = self.inner.lock();
        // What goes along need not be of use.
        let useful = anew.useful;
        let Some(file) = &mut state.file else { return Ok(0) };
        file.replace(anew, read)?;
        state.dirty = true;
        drop(state);
        // The directory is what names it.
        sync_folder(&self.path).map_err(Error::file(&self.path, "bring it onto the disk"))?;
        Ok(useful)
    }

    /// It could not be opened. It is tried again.
    pub(super) fn fails_to_open(&self, error: &Error) {
        self.fails(&mut self.inner.lock(), error);
    }

    /// What cannot be written is told once, until it can be.
    fn fails(&self, state: &mut State, error: &Error) {
        if state.failing.replace(error.to_string()).is_none() {
            self.say(&format!(
                "{error}; blocking goes on, but what is blocked from now on is not remembered"
            ));
        }
    }

    fn works(&self, state: &mut State) {
        if state.failing.take().is_some() {
            self.say(&format!("{}: what is blocked is remembered again", self.path.display()));
        }
    }

    fn say(&self, sentence: &str) {
        self.say.lock().unwrap_or_else(PoisonError::into_inner)(sentence);
    }
}

impl State {
    pub(super) fn of(file: Option<JournalFile>) -> Self {
        State {
            file,
            backlog: HashMap::new(),
            bound: BACKLOG,
            dirty: false,
            useful: 0,
            stale: false,
            failing: None,
            now: Timestamp::now(),
            ended: false,
            #[cfg(test)]
            syncs: 0,
        }
    }

    /// Keeps entries that could not be written: of each scope the last one.
    pub(super) fn keep(&mut self, entries: impl IntoIterator<Item = Entry>) {
        self.backlog.extend(entries.into_iter().map(|entry| (key(&entry), entry)));
    }

    /// Forgets releases of what the file does not hold, so that what is kept is no more than what is wanted and what it holds.
    pub(super) fn bound_backlog(&mut self, path: &Path) {
        if self.backlog.len() < self.bound {
            return;
        }
        let mut held = Recorded::default();
        // What cannot be read is not known to be needless.
        let read = open_to_read(path).and_then(|file| file.map_or(Ok(()), |file| held.add(path, file)));
        if read.is_ok() {
            self.backlog.retain(|(scope, _), entry| match entry {
                Entry::Released(_) => held.blocks.contains_key(scope),
                Entry::Undone(_) => held.by_command.contains_key(scope),
                Entry::Wanted(..) | Entry::Unsure(..) | Entry::Done(..) => true,
            });
        }
        self.bound = self.backlog.len().saturating_mul(2).max(BACKLOG);
    }

    fn append(&mut self, path: &Path, entries: &[Entry]) -> Result<(), Option<Error>> {
        let mut text = Vec::new();
        entries.iter().for_each(|entry| entry.write(self.now, &mut text));
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(JournalFile::open(path)?),
        };
        file.append(&text)?;
        self.dirty = true;
        Ok(())
    }
}

/// Of what an entry takes the place: of what is wanted of a scope, or of what commands did.
fn key(entry: &Entry) -> (Prefix, bool) {
    match entry {
        Entry::Wanted(scope, _) | Entry::Released(scope) => (*scope, false),
        Entry::Unsure(scope, _) | Entry::Done(scope, _) | Entry::Undone(scope) => (*scope, true),
    }
}
