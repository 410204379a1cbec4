//! What is wanted, beyond a kill, a restart and a reboot: the journal of the engine, which alone writes it, in the directory of
//! `--state`, or without that in the runtime directory, where it lasts as long as what is in the kernel.
//!
//! A change is written before it is told, so that a kill loses none. Bringing it onto the disk is left to a thread of its own,
//! which does it at once, but not more often than five times a second: a disk that is slow, full or gone holds up no block. What
//! could not be written is kept and tried again. When the journal has grown to twice its useful size, the engine gives all that
//! it is to hold, and that thread writes it anew.
//!
//! | file | what it holds |
//! |---|---|
//! | `format.rs` | the lines |
//! | `file.rs` | the file |
//! | `flusher.rs` | the thread that brings it onto the disk, and shortens it |
//! | `old_format.rs` | files of an earlier psentry-block |

mod file;
mod flusher;
mod format;
mod old_format;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use psentry_records::Timestamp;
use psentry_stage::{runtime_directory, sync_folder};

use self::file::{JournalFile, open_to_read};
use self::flusher::Shared;
pub(crate) use self::format::{CommandState, JournalEntry, Recorded};
use self::old_format::OldFiles;
use crate::error::Error;

/// What the file is called.
const NAME: &str = "journal.jsonl";

/// Where psentry-block.service keeps its state, so that commands find it without a flag.
const SERVICE: &str = "/var/lib/psentry-block";

/// A journal that the engine writes.
pub(crate) struct Journal {
    shared: Arc<Shared>,
    flusher: Option<JoinHandle<()>>,
    pending: Vec<JournalEntry>,
}

/// Where a journal is, and whether a flag names it.
pub(crate) struct Place {
    directory: PathBuf,
    /// By `--state`. At the default place it is no error that another psentry-block keeps it.
    pub(crate) given: bool,
    exec_roll: Option<PathBuf>,
}

impl Place {
    /// Of an engine that reads verdicts.
    pub(crate) fn of_engine(state: Option<&Path>, exec_roll: Option<&Path>) -> Self {
        let (directory, given) =
            (state.map_or_else(|| runtime_directory("psentry-block"), Path::to_owned), state.is_some());
        Place { directory, given, exec_roll: exec_roll.map(Path::to_owned) }
    }

    /// Of a command: without `--state` that of whichever was used last, the service or an engine without `--state`.
    pub(crate) fn of_command(state: Option<&Path>, exec_roll: Option<&Path>) -> Self {
        let service = Path::new(SERVICE);
        let used =
            |directory: &Path| fs::metadata(directory.join(NAME)).and_then(|meta| meta.modified()).ok();
        let is_last = || service.is_dir() && used(service) >= used(&runtime_directory("psentry-block"));
        Self::of_engine(state.or_else(|| is_last().then_some(service)), exec_roll)
    }

    /// The file.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.join(NAME)
    }

    /// What is in it. What an earlier psentry-block wrote counts as written before it, as long as it is there: it is removed once
    /// all of it is in the journal.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn read(&self) -> Result<Recorded, Error> {
        self.read_as(false)
    }

    /// An empty file says that nothing is wanted, and one that `is_new`, for it was just made, says nothing.
    fn read_as(&self, is_new: bool) -> Result<Recorded, Error> {
        let path = self.path();
        let mut recorded = self.old_files().read()?;
        if let Some(file) = open_to_read(&path)? {
            recorded.known |= !is_new;
            recorded.add(&path, file)?;
        }
        Ok(recorded)
    }

    fn old_files(&self) -> OldFiles {
        OldFiles::of(&self.directory, self.exec_roll.as_deref(), &runtime_directory("psentry-block"))
    }
}

impl Journal {
    /// Opens the journal at a place to write to it, and what it holds. What an earlier psentry-block wrote is taken over. What
    /// cannot be read or written is told, and no reason not to block: it is tried again.
    ///
    /// # Errors
    /// [`Error::Kept`]: another psentry-block keeps it.
    pub(crate) fn open(
        place: &Place,
        say: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<(Self, Recorded), Error> {
        let path = place.path();
        let is_new = !path.exists();
        let (mut file, failure) = match JournalFile::open(&path) {
            Ok(file) => (Some(file), None),
            Err(error @ Error::Kept { .. }) => return Err(error),
            Err(error) => (None, Some(error)),
        };
        let old = place.old_files();
        let read = place.read_as(is_new);
        if let Err(error) = &read {
            say(&format!("what was blocked before is not known: {error}"));
        }
        let mut is_whole = read.is_ok();
        let recorded = read.unwrap_or_default();
        for (path, count, first) in &recorded.damaged {
            let what = if *count == 1 { "line that is" } else { "lines that are" };
            let path = path.display();
            say(&format!("{path}: {count} {what} no record passed over, the first is line {first}"));
        }
        if is_whole && !old.is_empty() {
            // What is still there at the next start is taken over again, and is the same.
            is_whole = file.as_mut().is_some_and(|file| take_over(file, &path, &recorded, &old).is_ok());
        }
        let shared = Arc::new(Shared::new(path, file, is_whole, say));
        failure.iter().for_each(|error| shared.fails(&mut shared.lock(), error));
        let flusher = Some(Shared::start(&shared)?);
        Ok((Journal { flusher, shared, pending: Vec::new() }, recorded))
    }

    /// What is to be written with the next [`commit`](Self::commit).
    pub(crate) fn record(&mut self, entry: JournalEntry) {
        self.pending.push(entry);
    }

    /// Writes what was recorded, at the moment `now`, into the kernel's cache. Does not wait until the disk has it.
    pub(crate) fn commit(&mut self, now: Timestamp) {
        let mut text = Vec::new();
        self.pending.drain(..).for_each(|entry| entry.write(now, &mut text));
        if !text.is_empty() {
            self.shared.write(&text);
        }
    }

    /// Has it written anew soon, however short it is: what was written by another wall clock would seem newer than it is.
    pub(crate) fn shorten(&self) {
        self.shared.lock().stale = true;
    }

    /// Whether it is to be written anew by [`write_anew`](Self::write_anew).
    pub(crate) fn is_due(&self) -> bool {
        self.shared.lock().is_due()
    }

    /// From now on it is not written anew any more: not all that it is to hold is known.
    pub(crate) fn keep_long(&self) {
        self.shared.lock().is_whole = false;
    }
}

/// Brings what an earlier psentry-block wrote into the journal, with what is in that.
fn take_over(file: &mut JournalFile, path: &Path, recorded: &Recorded, old: &OldFiles) -> Result<(), Error> {
    let now = recorded.newest.unwrap_or_else(Timestamp::now);
    let (anew, replacement) = JournalFile::beside(path, &recorded.clone().text(now))?;
    replacement.rename().and_then(|()| sync_folder(path)).map_err(Error::file(path, "write it anew"))?;
    *file = anew;
    old.remove()
}
