//! The judge's memory on disk: a file of changes that is appended to, and written anew when it has grown to twice what
//! the memory takes. A judge that is killed loses at most the last second, a machine that crashes the last few; a torn
//! last line is dropped, and lines that say nothing; after a restart the judge goes on as if it had never stopped.

mod entry;
mod restore;
mod sync;

use std::fs::{DirBuilder, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::Flock;
use psentry_stage::{DraftName, Replacement, is_survivable, lock_file};

pub(crate) use self::restore::read_about;
pub use self::restore::{Damage, restore};

use self::entry::{Entry, FILE, FORM};
use self::sync::Sync;
use crate::{JudgeError, State};

/// The one that takes its place.
const NEW: &str = "state.jsonl.new";

/// Below this size a file is not written anew.
const SMALL: u64 = 4 << 20;

/// How soon a file that could not be written is tried again: each time all of it is written.
const RETRY: Duration = Duration::from_secs(10);

/// The state on disk.
pub struct Journal {
    folder: PathBuf,
    /// `None`: it could not be written to, so that only all of it written anew will do.
    file: Option<BufWriter<File>>,
    /// When that is tried next.
    retry: Option<Instant>,
    size: u64,
    /// What it took when it was last written anew.
    base: u64,
    /// The last line about the rest: while nothing changes, nothing is written, and disks may sleep.
    rest: Vec<u8>,
    sync: Sync,
    _lock: Flock<File>,
}

impl Journal {
    /// Opens the state in a folder, which is made where it is missing, and restores it into `state`.
    ///
    /// # Errors
    /// The folder cannot be used, or another judge uses it.
    pub fn open(folder: &Path, state: &mut State) -> Result<(Self, Damage), JudgeError> {
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |source| JudgeError::State { what, path, source }
        };
        // Who logged in from where is nobody else's business.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(failed("cannot make the folder", folder))?;
        // The folder itself is locked: that takes no file, for which a full disk may have no room.
        let lock = File::open(folder).map_err(failed("cannot open", folder))?;
        let lock = lock_file(lock, Duration::ZERO).map_err(failed("cannot lock", folder))?;
        let lock = lock.ok_or_else(|| JudgeError::Locked(folder.to_owned()))?;
        let path = folder.join(FILE);
        let damage = match File::open(&path).and_then(|file| restore(file, state)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Damage::default(),
            read => read.map_err(failed("cannot read", &path))?,
        };
        state.sources.keep_journal();
        let (file, size) = match rewrite(folder, state) {
            Ok((file, size)) => (Some(BufWriter::new(file)), size),
            // The first save tries again, and reports it.
            Err(error) if is_survivable(&error) => (None, 0),
            Err(error) => return Err(failed("cannot write", &folder.join(NEW))(error)),
        };
        let (folder, rest, sync) = (folder.to_owned(), Vec::new(), Sync::default());
        Ok((Journal { folder, file, retry: None, size, base: size, rest, sync, _lock: lock }, damage))
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes what changed since the last call. What was written is on the disk a few seconds after `now` if this is
    /// called meanwhile, with changes or without.
    ///
    /// # Errors
    /// The file cannot be written; the next call writes all of it anew, and those after it do every ten seconds.
    pub fn save(&mut self, state: &mut State, now: Instant) -> Result<(), JudgeError> {
        let Some(file) = &mut self.file else {
            if self.retry.is_some_and(|retry| now < retry) {
                return Ok(());
            }
            self.retry = Some(now + RETRY);
            return self.compact(state);
        };
        let path = self.folder.join(FILE);
        let mut append = || -> io::Result<u64> {
            let mut line = Vec::new();
            let mut written = 0;
            let mut put = |entry: &Entry| -> io::Result<()> {
                encode(entry, &mut line)?;
                written += line.len() as u64;
                file.write_all(&line)
            };
            state.sources.drain_changes(|scope, source| {
                put(&source.map_or(Entry::Gone(scope), |source| Entry::source(scope, source)))
            })?;
            for (prefix, sweep) in state.sweeps.drain_changes() {
                put(&Entry::Sweep(prefix, sweep))?;
            }
            for (scope, voucher) in state.vouchers.drain_changes() {
                put(&Entry::Vouch(scope, voucher))?;
            }
            if state.machine.take_change() {
                put(&Entry::machine(state))?;
            }
            encode(&Entry::rest(state), &mut line)?;
            if line != self.rest {
                written += line.len() as u64;
                file.write_all(&line)?;
                self.rest = line;
            }
            file.flush()?;
            if written > 0 {
                self.sync.appended(now);
            }
            self.sync.sync_if_due(file.get_ref(), now)?;
            Ok(written)
        };
        match append() {
            Ok(written) => self.size += written,
            Err(source) => {
                self.file = None;
                return Err(JudgeError::State { what: "cannot write", path, source });
            }
        }
        if self.size > SMALL.max(2 * self.base) {
            self.compact(state)?;
        }
        Ok(())
    }

    /// Writes the file anew, with nothing in it but what is remembered now.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn compact(&mut self, state: &mut State) -> Result<(), JudgeError> {
        let written = rewrite(&self.folder, state);
        let (file, size) = written.map_err(|source| {
            self.file = None;
            JudgeError::State { what: "cannot write", path: self.folder.join(NEW), source }
        })?;
        (self.file, self.retry) = (Some(BufWriter::new(file)), None);
        (self.size, self.base) = (size, size);
        // All of it is on the disk; what becomes of the old file is of no interest any more.
        self.sync = Sync::default();
        self.rest.clear();
        Ok(())
    }
}

fn encode(entry: &Entry, line: &mut Vec<u8>) -> io::Result<()> {
    line.clear();
    serde_json::to_writer(&mut *line, entry)?;
    line.push(b'\n');
    Ok(())
}

/// Writes all that is remembered into a new file, which takes the place of the old one only when it is on the disk.
fn rewrite(folder: &Path, state: &mut State) -> io::Result<(File, u64)> {
    // Only the judge that holds the lock writes here.
    let (replacement, file) = Replacement::create(&folder.join(FILE), DraftName::Fixed, 0o600)?;
    let (file, size) = write_whole(file, state)?;
    replacement.commit(&file)?;
    state.sources.all_written();
    state.sweeps.drain_changes();
    state.vouchers.drain_changes();
    state.machine.take_change();
    Ok((file, size))
}

fn write_whole(file: File, state: &State) -> io::Result<(File, u64)> {
    let mut file = BufWriter::new(file);
    let mut size = 0;
    let mut line = Vec::new();
    let mut put = |entry: &Entry| -> io::Result<()> {
        encode(entry, &mut line)?;
        size += line.len() as u64;
        file.write_all(&line)
    };
    put(&Entry::Form(FORM.to_owned()))?;
    for (scope, source) in state.sources.oldest_first() {
        put(&Entry::source(scope, source))?;
    }
    for (&scope, voucher) in state.vouchers.iter() {
        put(&Entry::Vouch(scope, Some(voucher.clone())))?;
    }
    for (&prefix, sweep) in state.sweeps.iter() {
        put(&Entry::Sweep(prefix, Some(sweep.clone())))?;
    }
    put(&Entry::machine(state))?;
    put(&Entry::rest(state))?;
    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok((file, size))
}

#[cfg(test)]
mod tests;
