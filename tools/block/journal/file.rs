//! The file of the journal: opened, appended to, written anew. The one engine that keeps it holds a lock on it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::Flock;
use psentry_stage::{
    DraftName, Replacement, lock_file, make_directory, open_regular, own_like_directory, runtime_directory,
};

use crate::error::Error;

/// How long the one before us may take to be gone.
const GONE: Duration = Duration::from_secs(3);
/// How long a journal may be: room for a million blocks, the most that there may be, of 900 bytes each, and for 128 MiB that are
/// of no use any more. A longer one is not psentry-block's: whoever owns the directory may make a file of any length, and none
/// holds up a command of root's.
pub(super) const LONGEST: u64 = 1 << 30;

/// The file, ours to write to.
pub(super) struct JournalFile {
    file: Flock<File>,
    path: PathBuf,
}

/// Opens a file of the service to be read; `None`: there is none.
pub(super) fn open_to_read(path: &Path) -> Result<Option<File>, Error> {
    match open_regular(path, OpenOptions::new().read(true)) {
        Ok(file) => check_length(&file).map(|()| Some(file)).map_err(Error::file(path, "read it")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file(path, "open it")(error)),
    }
}

impl JournalFile {
    /// Opens it, and makes it if it is not there.
    ///
    /// # Errors
    /// [`Error::Kept`]: another psentry-block keeps it.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let directory = path.parent().unwrap_or(Path::new("."));
        if !directory.is_dir() {
            // Whoever may ask has to reach the socket beside it; the journal itself is closed.
            let mode = if directory == runtime_directory("psentry-block") { 0o755 } else { 0o700 };
            let made = DirBuilder::new().recursive(true).mode(mode).create(directory);
            // Of a service of systemd that has stopped a link to nowhere is left.
            let made = made.or_else(|_| make_directory(directory));
            made.map_err(Error::file(directory, "make the directory"))?;
        }
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        let file = loop {
            let file = open_regular(path, &options).map_err(Error::file(path, "open it"))?;
            own_like_directory(&file, directory);
            let file = lock(file, path)?;
            // Whoever kept it may have written it anew meanwhile: then another file has its name.
            if is_named(&file, path).map_err(Error::file(path, "open it"))? {
                break file;
            }
        };
        check_length(&file).map_err(Error::file(path, "go on in it"))?;
        // A command without --state goes on in the one that was used last.
        let _ = file.set_modified(SystemTime::now());
        if is_torn(&file).map_err(Error::file(path, "read it"))? {
            (&*file).write_all(b"\n").map_err(Error::file(path, "write it"))?;
        }
        Ok(JournalFile { file, path: path.to_owned() })
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
        let mut file: &File = &self.file;
        let before = self.len();
        file.write_all(text).map_err(|why| {
            // What was written of it is written again: it is not to take the room that there is by then, nor half a line.
            let _ = file.set_len(before).or_else(|_| file.write_all(b"\n"));
            Error::file(&self.path, "write it")(why)
        })
    }

    /// One that holds `text` alone, beside a journal, and what lets it take the place of that; on the disk when this returns.
    /// Only the one that keeps the journal gets here.
    pub(super) fn beside(path: &Path, text: &[u8]) -> Result<(Self, Replacement), Error> {
        let write = || -> io::Result<(Replacement, File)> {
            let (replacement, mut file) = Replacement::create(path, DraftName::Fixed, 0o600)?;
            file.write_all(text)?;
            file.sync_all()?;
            Ok((replacement, file))
        };
        let (replacement, file) = write().map_err(Error::file(path, "write it anew"))?;
        own_like_directory(&file, path.parent().unwrap_or(Path::new(".")));
        let file = lock(file, replacement.draft())?;
        Ok((JournalFile { file, path: path.to_owned() }, replacement))
    }
}

/// Locks a journal; another psentry-block may keep it.
fn lock(file: File, path: &Path) -> Result<Flock<File>, Error> {
    let locked = lock_file(file, GONE).map_err(Error::file(path, "lock it"))?;
    locked.ok_or_else(|| Error::Kept { path: path.to_owned() })
}

/// Whether a file still has that name.
fn is_named(file: &File, path: &Path) -> io::Result<bool> {
    let file = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (file.dev(), file.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes a file; that it is not there is no error.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file(path, "remove it")(error)),
        _ => Ok(()),
    }
}

fn check_length(file: &File) -> io::Result<()> {
    if file.metadata()?.len() > LONGEST {
        return Err(io::Error::other(format!("it is longer than {} MiB; remove it", LONGEST >> 20)));
    }
    Ok(())
}

fn is_torn(file: &File) -> io::Result<bool> {
    let mut last = [b'\n'];
    if let Some(at) = file.metadata()?.len().checked_sub(1) {
        file.read_exact_at(&mut last, at)?;
    }
    Ok(last != *b"\n")
}
