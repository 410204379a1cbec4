//! The file of one backend's memory: opened, read, appended to, written anew. Whoever changes it other than by one
//! write(2) at its end holds the lock on its directory; the one psentry-block that keeps it holds a lock on the file.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::Flock;
use psentry_records::{Prefix, Timestamp};
use psentry_stage::{DraftName, Replacement};

use super::lines::{Held, line};
use crate::backend::Block;
use crate::error::Error;
use crate::lock::{self, Lock, NO_LINK};

/// How long the one before us may take to be gone.
const GONE: Duration = Duration::from_secs(3);

/// What the file is called for a backend.
pub(super) fn path(directory: &Path, backend: &str) -> PathBuf {
    directory.join(format!("{backend}.jsonl"))
}

/// The file, ours to write to.
pub(super) struct Journal {
    file: Flock<File>,
    path: PathBuf,
    /// Its last line has no end: the next one begins with one.
    torn: bool,
}

impl Journal {
    /// Opens it, and makes it if it is not there.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        if let Some(directory) = path.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
            made.map_err(Error::file(directory, "make the directory"))?;
        }
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).mode(0o600).custom_flags(NO_LINK).open(path);
        let file = file.map_err(Error::file(path, "open it"))?;
        let file = lock::wait(file, path, GONE).map_err(|error| match error {
            Error::Locked { path, .. } => Error::Kept { path },
            error => error,
        })?;
        let torn = is_torn(&file).map_err(Error::file(path, "read it"))?;
        Ok(Journal { file, path: path.to_owned(), torn })
    }

    /// How long it is.
    pub(super) fn len(&self) -> u64 {
        self.file.metadata().map_or(0, |meta| meta.len())
    }

    /// Another handle of it, to have it written to the disk.
    pub(super) fn handle(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Writes lines at its end, in one piece as far as the disk has room.
    pub(super) fn append(&mut self, text: &[u8]) -> Result<(), Error> {
        let wrong = |why| Error::file(&self.path, "write it")(why);
        let whole;
        let text = if self.torn {
            whole = [b"\n", text].concat();
            &whole
        } else {
            text
        };
        let mut file: &File = &self.file;
        if let Err(why) = file.write_all(text) {
            self.torn = true;
            return Err(wrong(why));
        }
        self.torn = false;
        Ok(())
    }

    /// Forgets all of it.
    pub(super) fn clear(&mut self) -> Result<(), Error> {
        let wrong = |why| Error::file(&self.path, "write it")(why);
        self.torn = false;
        self.file.set_len(0).and_then(|()| self.file.sync_data()).map_err(wrong)
    }

    /// Goes on in what was written anew; whatever was appended meanwhile goes along. `read`: how much of this one
    /// is in it.
    pub(super) fn replace(&mut self, anew: Anew, read: u64) -> Result<(), Error> {
        let go_on = || -> io::Result<bool> {
            // Cleared meanwhile: what was written anew is what was to be forgotten.
            if self.len() < read {
                return Err(io::Error::other("all of it was forgotten meanwhile"));
            }
            let mut rest = Vec::new();
            let mut old = File::open(&self.path)?;
            old.seek(SeekFrom::Start(read))?;
            old.read_to_end(&mut rest)?;
            let mut file: &File = &anew.file;
            file.write_all(&rest)?;
            anew.replacement.rename()?;
            Ok(!rest.is_empty())
        };
        let more = go_on().map_err(Error::file(&self.path, "write it anew"))?;
        self.torn &= more;
        self.file = anew.file;
        Ok(())
    }
}

/// What only matters of a journal, in a file beside it.
pub(super) struct Anew {
    file: Flock<File>,
    replacement: Replacement,
    /// How long it is.
    pub(super) useful: u64,
}

impl Anew {
    /// What matters of the first `read` bytes of a journal; on the disk when this returns.
    pub(super) fn of(journal: &Path, read: u64, now: Timestamp) -> Result<Self, Error> {
        let write = || -> io::Result<(Replacement, File)> {
            let text = Held::compact(File::open(journal)?.take(read), now)?;
            // Only the one that keeps the journal gets here.
            let (replacement, mut file) = Replacement::create(journal, DraftName::Fixed, 0o600)?;
            file.write_all(&text)?;
            file.sync_all()?;
            Ok((replacement, file))
        };
        let (replacement, file) = write().map_err(Error::file(journal, "write it anew"))?;
        let file = lock::wait(file, replacement.draft(), GONE)?;
        let useful = file.metadata().map_or(0, |meta| meta.len());
        Ok(Anew { file, replacement, useful })
    }
}

/// What a journal holds; without one, nothing.
pub(super) fn read(path: &Path) -> Result<Held, Error> {
    let wrong = |why| Error::file(path, "read it")(why);
    match File::open(path) {
        Ok(file) => Held::read(file, Timestamp::now()).map_err(wrong),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Held::default()),
        Err(error) => Err(wrong(error)),
    }
}

/// Notes in the journal of a running psentry-block, or of none, that scopes were blocked, or (`None`) let in; on the
/// disk when this returns. Where nothing was remembered, only a block is.
pub(super) fn add(path: &Path, changes: &[(Prefix, Option<&Block>)]) -> Result<(), Error> {
    let Some(directory) = path.parent() else { return Ok(()) };
    let blocks = changes.iter().any(|(_, block)| block.is_some());
    if blocks {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(Error::file(directory, "make the directory"))?;
    }
    let _lock = Lock::directory(directory)?;
    let write = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(blocks).mode(0o600).custom_flags(NO_LINK);
        let mut file = match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        if blocks {
            // If it was made, it is to belong to the one that will keep it.
            lock::like_its_directory(&file, directory);
        }
        let mut text = if is_torn(&file)? { vec![b'\n'] } else { Vec::new() };
        for (scope, block) in changes {
            line(*scope, *block, Timestamp::now(), &mut text)?;
        }
        file.write_all(&text)?;
        file.sync_data()
    };
    write().map_err(Error::file(path, "write it"))
}

fn is_torn(mut file: &File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}
