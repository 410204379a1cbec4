//! Blocks as lines in hosts.deny, for services that are linked with TCP wrappers, or run by tcpd. Nothing in the kernel
//! changes. The file is read, changed and replaced under a lock on its directory.
//!
//! That inotify reports a change of the file says nothing yet: it may have been ours. What counts is whether the file still
//! holds what it held when it was read or written last.
//!
//! The section of psentry in it is in `section.rs`, as bytes.
//!
//! A file that is a mount of its own is written in place, once its old contents are kept in a backup beside it, for an administrator
//! whose machine crashes meanwhile.

pub mod section;

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use psentry_records::{Prefix, Timestamp};
use psentry_stage::{
    FileWatch, is_mount, lock_file, read_if_there, remove_if_there, replace_file_like, speak, sync_folder,
    write_in_place,
};

use self::section::Parts;
use crate::backend::{Backend, Caps, Drift, Listing, Op};
use crate::block::Entry;
use crate::error::Error;

const NAME: &str = "hosts-deny";

/// How often the file is read although nothing is known to have happened to it: a mount over it is not reported, nor what
/// another machine writes. More often where there is no watch.
const POLL: Duration = Duration::from_secs(60);
const POLL_UNWATCHED: Duration = Duration::from_secs(1);

/// How long another process of psentry may hold the lock. It does so for as long as it takes to write the file.
const LOCK_TIMEOUT: Duration = Duration::from_secs(3);

/// The mode of a file that is made: every service has to read it.
const MODE: u32 = 0o644;

/// What the name of a backup ends with.
const BACKUP: &str = ".psentry-backup";

/// The backend.
pub(super) struct HostsDeny {
    path: PathBuf,
    watch: Option<FileWatch>,
    /// The file as it was listed, or written since; `None`: there was none. Where somebody else had changed it when it was written, it
    /// stays as it was before that, so that it differs.
    last: Option<Vec<u8>>,
    /// It has been said how the file is written and watched.
    said: bool,
}

/// Where the file really is.
struct Place {
    /// The file, behind symbolic links.
    path: PathBuf,
    directory: PathBuf,
    /// It is a mount of its own.
    mounted: bool,
}

impl HostsDeny {
    pub(super) fn new(path: &Path) -> Self {
        HostsDeny { path: path.to_owned(), watch: None, last: None, said: false }
    }

    /// Whether the file can be found and its section read.
    pub(super) fn check(&self) -> Result<(), Error> {
        let Place { path, directory, .. } = self.place()?;
        fs::metadata(&directory).map_err(Error::file(&directory, "find it"))?;
        Parts::read(&path, contents(&path)?.as_deref()).map(drop)
    }

    fn place(&self) -> Result<Place, Error> {
        let given = std::path::absolute(&self.path).map_err(Error::file(&self.path, "find it"))?;
        let path = match given.canonicalize() {
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !given.is_symlink() => given,
            Err(error) => return Err(Error::file(&self.path, "find it")(error)),
        };
        let directory = path.parent().unwrap_or(Path::new("/")).to_owned();
        let mounted = is_mount(&path);
        Ok(Place { path, directory, mounted })
    }

    /// Whether a new file can be made in the directory: it is better known now than at the first block.
    fn probe(&self, place: &Place) -> Result<(), Error> {
        let Err(why) = tempfile::NamedTempFile::new_in(&place.directory) else { return Ok(()) };
        Err(match why.kind() {
            io::ErrorKind::NotFound => Error::file(&place.directory, "write into it")(why),
            _ if place.mounted => {
                let doing = "write a backup beside it, without which a file that is a mount of its own is not changed";
                Error::file(&place.path, doing)(why)
            }
            _ => Error::file(&place.path, "write a new one beside it")(why),
        })
    }

    /// Reads the file, has its entries changed, and writes it back, all under the lock.
    fn rewrite(&mut self, change: impl FnOnce(Vec<Entry>) -> Vec<Entry>) -> Result<(), Error> {
        let Place { path, directory, mounted } = self.place()?;
        let opened = File::open(&directory).map_err(Error::file(&directory, "open it"))?;
        let lock = lock_file(opened, LOCK_TIMEOUT).map_err(Error::file(&directory, "lock it"))?;
        let _lock = lock.ok_or(Error::Locked { path: directory, limit: LOCK_TIMEOUT })?;
        let before = contents(&path)?;
        let mut parts = Parts::read(&path, before.as_deref())?;
        parts.entries = change(parts.entries);
        let mut after = parts.write();
        if mounted && after != before {
            // A mount cannot be removed either.
            overwrite(&path, before.as_deref().unwrap_or_default(), after.get_or_insert_default())?;
        } else if after != before {
            let (doing, done) = match &after {
                Some(after) => ("replace it", replace_file_like(&path, &path, MODE, after)),
                None => ("remove it", fs::remove_file(&path).and_then(|()| sync_folder(&path))),
            };
            done.map_err(Error::file(&path, doing))?;
        }
        if before == self.last {
            self.last = after;
        }
        Ok(())
    }
}

impl Backend for HostsDeny {
    fn caps(&self) -> Caps {
        let poll_every = if self.watch.is_some() { POLL } else { POLL_UNWATCHED };
        // Each batch writes the whole file.
        Caps { expires: false, batch: 20_000, poll_every: Some(poll_every), ..Caps::of(NAME) }
    }

    fn ensure(&mut self) -> Result<bool, Error> {
        let place = self.place()?;
        self.probe(&place)?;
        let first = !std::mem::replace(&mut self.said, true);
        if place.mounted && first {
            let (path, backup) = (place.path.display(), backup_of(&place.path));
            speak(&format!(
                "psentry-block: {NAME}: {path} is a mount of its own, which cannot be replaced in one step: it is written in place, after a backup to {}",
                backup.display()
            ));
        }
        if self.watch.is_none() {
            let watch = FileWatch::open(std::slice::from_ref(&self.path));
            if let Err(why) = &watch
                && first
            {
                speak(&format!(
                    "psentry-block: {NAME}: cannot watch hosts.deny: {why}; so changes by others are looked for once a second"
                ));
            }
            self.watch = watch.ok();
        }
        Ok(false)
    }

    fn list(&mut self) -> Result<Listing, Error> {
        let path = self.place()?.path;
        self.last = contents(&path)?;
        let entries = Parts::read(&path, self.last.as_deref())?.entries;
        Ok(Listing { entries, ..Listing::default() })
    }

    fn apply(&mut self, ops: &[Op], _: Timestamp) -> Vec<Result<(), Error>> {
        let done = self.rewrite(|entries| changed(entries, ops));
        vec![done; ops.len()]
    }

    fn events(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(FileWatch::as_fd)
    }

    fn drift(&mut self) -> Result<Option<Drift>, Error> {
        // What happened is not asked: what counts is what the file holds now.
        if let Some(watch) = &mut self.watch {
            watch.changed();
        }
        let is = contents(&self.place()?.path)?;
        Ok((is != self.last).then(Drift::default))
    }

    fn purge(&mut self) -> Result<(), Error> {
        let path = self.place()?.path;
        if contents(&path)?.is_some() {
            self.rewrite(|_| Vec::new())?;
        }
        let backup = backup_of(&path);
        remove_if_there(&backup).map_err(Error::file(&backup, "remove it"))
    }
}

/// Writes new contents over the old ones, which are kept in a backup.
fn overwrite(path: &Path, old: &[u8], new: &[u8]) -> Result<(), Error> {
    let backup = backup_of(path);
    let kept = replace_file_like(&backup, path, MODE, old);
    kept.map_err(Error::file(&backup, "write it, and without a backup the file is not written in place"))?;
    write_in_place(path, new).map_err(Error::file(path, "write it in place"))
}

/// Where the old contents of a mounted file are kept.
fn backup_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(BACKUP);
    PathBuf::from(name)
}

/// The file as it is; `None`: there is none.
fn contents(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    read_if_there(path).map_err(Error::file(path, "read it"))
}

/// The entries after these operations. A scope that was there keeps its place.
fn changed(entries: Vec<Entry>, ops: &[Op]) -> Vec<Entry> {
    let mut wanted: HashMap<Prefix, Option<Entry>> =
        ops.iter().map(|op| (op.scope(), op.block().map(|block| block.entry(op.scope())))).collect();
    let mut changed: Vec<Entry> = Vec::with_capacity(entries.len() + wanted.len());
    for entry in entries {
        match wanted.remove(&entry.scope) {
            Some(wanted) => changed.extend(wanted),
            None => changed.push(entry),
        }
    }
    changed.extend(ops.iter().filter_map(|op| wanted.remove(&op.scope()).flatten()));
    changed
}

#[cfg(test)]
mod tests;
