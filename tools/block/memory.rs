//! What is remembered of one backend's blocks beyond a kill, a restart and a reboot: a journal in `--state`.
//!
//! Confirmed changes are written before they are told, so that a kill loses none. Bringing them onto the disk is
//! left to a thread of its own, which does it at once, but not more often than [`PAUSE`] allows: a disk that is slow,
//! full or gone holds up no block. What could not be written is kept, one change a scope, and tried again.
//!
//! | file | what it holds |
//! |---|---|
//! | `journal.rs`, `lines.rs`, `keeper.rs` | the file; what stands in it; the thread that brings it onto the disk |
//! | `left.rs` | what an earlier run left, beside what is remembered |
//! | `recall.rs` | what is remembered, for commands |

mod journal;
mod keeper;
pub(crate) mod left;
mod lines;
pub(crate) mod recall;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use psentry_records::{Prefix, Timestamp};

use self::journal::Journal;
use crate::backend::Block;
use crate::error::Error;
use crate::report::Reporter;

/// How often at most it is brought onto the disk: a block a second apart is, ten thousand at once are in one go.
const PAUSE: Duration = Duration::from_millis(200);

/// How soon what could not be written is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// A journal shorter than this is never written anew.
const SHORT: u64 = 64 * 1024;

/// The memory of one backend, as its worker sees it.
pub(crate) struct Memory {
    shared: Arc<Shared>,
    keeper: Option<JoinHandle<()>>,
    noted: Vec<(Prefix, Option<Block>)>,
}

/// What worker and keeper share.
struct Shared {
    path: PathBuf,
    reporter: Arc<Reporter>,
    state: Mutex<State>,
    bell: Condvar,
    /// How often it was brought onto the disk.
    #[cfg(test)]
    syncs: std::sync::atomic::AtomicU32,
}

#[derive(Default)]
struct State {
    journal: Option<Journal>,
    /// What could not be written.
    backlog: HashMap<Prefix, Option<Block>>,
    /// Whether something was written that is not yet on the disk.
    dirty: bool,
    /// How long it was when only what matters stood in it.
    useful: u64,
    /// Why nothing can be written, once that has been told.
    failing: Option<String>,
    ended: bool,
}

impl Memory {
    /// The memory of `backend` in a directory, and what it holds. What cannot be read or written is told, and no
    /// reason not to block.
    ///
    /// # Errors
    /// When another psentry-block keeps it.
    pub(crate) fn open(
        directory: &Path,
        backend: &str,
        reporter: &Arc<Reporter>,
    ) -> Result<(Self, HashMap<Prefix, Block>), Error> {
        let path = journal::path(directory, backend);
        let shared = Arc::new(Shared {
            path: path.clone(),
            reporter: Arc::clone(reporter),
            state: Mutex::default(),
            bell: Condvar::new(),
            #[cfg(test)]
            syncs: std::sync::atomic::AtomicU32::default(),
        });
        let opened = Journal::open(&path);
        if let Err(error @ Error::Kept { .. }) = opened {
            return Err(error);
        }
        let held = journal::read(&path).unwrap_or_else(|error| {
            reporter.tell(&format!("what was blocked before is not known: {error}"));
            lines::Held::default()
        });
        if let Some((count, first)) = held.damaged {
            let what = if count == 1 { "line that is" } else { "lines that are" };
            reporter.tell(&format!(
                "{}: {count} {what} no verdict passed over, the first is line {first}",
                path.display()
            ));
        }
        match opened {
            Ok(journal) => shared.lock().journal = Some(journal),
            Err(error) => shared.fails(&mut shared.lock(), &error),
        }
        let keeper = Arc::clone(&shared);
        let keeper = thread::Builder::new()
            .name(format!("{backend}: state"))
            .spawn(move || keeper.keep())
            .map_err(Error::system("start a thread"))?;
        Ok((Memory { shared, keeper: Some(keeper), noted: Vec::new() }, held.blocks))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.shared.path
    }

    /// What is wrong with it, as a sentence; `None`: what is wanted is remembered.
    pub(crate) fn trouble(&self) -> Option<String> {
        let state = self.shared.lock();
        let lost = match state.backlog.len() {
            0 => String::new(),
            1 => "; 1 change is not remembered".to_owned(),
            count => format!("; {count} changes are not remembered"),
        };
        state.failing.as_ref().map(|why| format!("{why}{lost}"))
    }

    /// Takes note that `scope` is wanted like this from now on; `None`: let in.
    pub(crate) fn note(&mut self, scope: Prefix, block: Option<&Block>) {
        self.noted.push((scope, block.cloned()));
    }

    /// Writes what was noted. Never waits for the disk.
    pub(crate) fn commit(&mut self) {
        if self.noted.is_empty() {
            return;
        }
        let noted = std::mem::take(&mut self.noted);
        let mut state = self.shared.lock();
        if state.backlog.is_empty() {
            match self.shared.write(&mut state, noted.iter().map(|(scope, block)| (*scope, block.as_ref()))) {
                Ok(()) => {}
                Err(error) => {
                    state.backlog.extend(noted);
                    self.shared.fails(&mut state, &error);
                }
            }
        } else {
            state.backlog.extend(noted);
        }
        self.shared.bell.notify_one();
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.noted.clear();
        let mut state = self.shared.lock();
        state.backlog.clear();
        let cleared = state.journal.as_mut().map_or(Ok(()), Journal::clear);
        if let Err(error) = cleared {
            self.shared.fails(&mut state, &error);
        }
    }
}

impl Drop for Memory {
    /// All that was written is on the disk, as far as the disk takes it.
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.bell.notify_one();
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

impl Shared {
    /// Writes lines.
    fn write<'a>(
        &self,
        state: &mut State,
        changes: impl Iterator<Item = (Prefix, Option<&'a Block>)>,
    ) -> Result<(), Error> {
        let now = Timestamp::now();
        let mut text = Vec::new();
        for (scope, block) in changes {
            lines::line(scope, block, now, &mut text).map_err(Error::file(&self.path, "write it"))?;
        }
        if state.journal.is_none() {
            state.journal = Some(Journal::open(&self.path)?);
        }
        if let Some(journal) = &mut state.journal {
            journal.append(&text)?;
        }
        state.dirty = true;
        Ok(())
    }

    /// What cannot be written is told once, until it can be.
    fn fails(&self, state: &mut State, error: &Error) {
        if state.failing.replace(error.to_string()).is_none() {
            self.reporter.tell(&format!(
                "{error}; blocking goes on, but what is blocked from now on is not remembered"
            ));
        }
    }

    fn works(&self, state: &mut State) {
        if state.failing.take().is_some() {
            self.reporter.tell(&format!("{}: what is blocked is remembered again", self.path.display()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one of a directory's backends remembers, for people who look.
pub(crate) fn read(directory: &Path, backend: &str) -> Result<HashMap<Prefix, Block>, Error> {
    Ok(journal::read(&journal::path(directory, backend))?.blocks)
}

/// Has a backend forget scopes, whether or not a psentry-block keeps its memory; on the disk when this returns.
pub(crate) fn let_in(directory: &Path, backend: &str, scopes: &[Prefix]) -> Result<(), Error> {
    let scopes: Vec<_> = scopes.iter().map(|scope| (*scope, None)).collect();
    journal::add(&journal::path(directory, backend), &scopes)
}

/// Has a backend remember a block, whether or not a psentry-block keeps its memory; on the disk when this returns.
pub(crate) fn add(directory: &Path, backend: &str, scope: Prefix, block: &Block) -> Result<(), Error> {
    journal::add(&journal::path(directory, backend), &[(scope, Some(block))])
}

#[cfg(test)]
mod tests;
