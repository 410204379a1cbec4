//! Blocks as lines in hosts.deny, for services that are linked with TCP wrappers, or run by tcpd. Nothing in the kernel
//! changes. The file is read, changed and replaced under a lock on its directory.
//!
//! That inotify reports a change of the file says nothing yet: it may have been ours. What counts is whether the file still
//! holds what it held when it was read or written last.
//!
//! | file | what it holds |
//! |---|---|
//! | `section.rs` | the section of psentry in the file, as bytes |
//! | `replace.rs` | how the file gets new contents |

mod replace;
pub mod section;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use psentry_records::{Prefix, Timestamp};
use psentry_stage::{FileWatch, lock_file};

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

/// The backend.
pub(super) struct HostsDeny {
    path: PathBuf,
    watch: Option<FileWatch>,
    /// The file as it was read or written last; `None`: there was none.
    last: Option<Vec<u8>>,
    /// Somebody else had changed it when it was written last.
    drifted: bool,
    /// It has been said that the file is written in place; and that it cannot be watched.
    warned: bool,
    unwatched: bool,
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
        HostsDeny {
            path: path.to_owned(),
            watch: None,
            last: None,
            drifted: false,
            warned: false,
            unwatched: false,
        }
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
        let mounted = replace::is_mount(&path, &directory);
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
        if after != before {
            match (&mut after, &before) {
                (after, Some(before)) if mounted => {
                    // A mount cannot be removed either.
                    replace::write_in_place(&path, before, after.get_or_insert_default())?;
                }
                (Some(after), _) => replace::replace(&path, after)?,
                (None, _) => replace::remove(&path)?,
            }
        }
        self.drifted |= before != self.last;
        self.last = after;
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
        if place.mounted && !self.warned {
            self.warned = true;
            let (path, backup) = (place.path.display(), replace::backup_of(&place.path));
            say(&format!(
                "{path} is a mount of its own, which cannot be replaced in one step: it is written in place, after a backup to {}",
                backup.display()
            ));
        }
        if self.watch.is_none() {
            match FileWatch::open(std::slice::from_ref(&self.path)) {
                Ok(watch) => self.watch = Some(watch),
                Err(why) if !std::mem::replace(&mut self.unwatched, true) => {
                    say(&format!(
                        "cannot watch hosts.deny: {why}; so changes by others are looked for once a second"
                    ));
                }
                Err(_) => {}
            }
        }
        Ok(false)
    }

    fn list(&mut self) -> Result<Listing, Error> {
        let path = self.place()?.path;
        (self.last, self.drifted) = (contents(&path)?, false);
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
        Ok((is != self.last || self.drifted).then(Drift::default))
    }

    fn purge(&mut self) -> Result<(), Error> {
        let path = self.place()?.path;
        if contents(&path)?.is_some() {
            self.rewrite(|_| Vec::new())?;
        }
        let backup = replace::backup_of(&path);
        match fs::remove_file(&backup) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::file(&backup, "remove it")(error))
            }
            _ => Ok(()),
        }
    }
}

fn say(sentence: &str) {
    let _ = writeln!(io::stderr(), "psentry-block: {NAME}: {sentence}");
}

/// The file as it is; `None`: there is none.
fn contents(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(contents) => Ok(Some(contents)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file(path, "read it")(error)),
    }
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
