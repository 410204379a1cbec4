//! Blocks as lines in hosts.deny, for services that are linked with TCP wrappers, or run by tcpd. Nothing in the
//! kernel changes. The file is replaced in one step, under a lock on its directory.

mod section;
mod watch;

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use psentry_records::Timestamp;

use self::section::Parts;
use self::watch::{Edit, Watch, draft};
use super::SOMEBODY;
use crate::backend::{Backend, Change, Effect, Entry, Noticed, Wish};
use crate::error::Error;
use crate::lock::Lock;

/// The rights of a file that is made: every service has to read it.
const MODE: u32 = 0o644;

/// The backend.
pub(super) struct HostsDeny {
    path: PathBuf,
    watch: Option<Watch>,
}

impl HostsDeny {
    pub(super) fn new(path: &Path) -> Self {
        HostsDeny { path: path.to_owned(), watch: None }
    }

    /// Whether the file can be found and its section read.
    pub(super) fn check(&self) -> Result<(), Error> {
        let (path, directory) = self.place()?;
        fs::metadata(&directory).map_err(Error::file(&directory, "find it"))?;
        Self::read(&path).map(drop)
    }

    /// The file behind symbolic links, and the directory that holds it.
    fn place(&self) -> Result<(PathBuf, PathBuf), Error> {
        let given = std::path::absolute(&self.path).map_err(Error::file(&self.path, "find it"))?;
        let path = match given.canonicalize() {
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !given.is_symlink() => given,
            Err(error) => return Err(Error::file(&self.path, "find it")(error)),
        };
        let directory = path.parent().unwrap_or(Path::new("/")).to_owned();
        Ok((path, directory))
    }

    fn read(path: &Path) -> Result<Parts, Error> {
        Parts::read(path, Self::content(path)?.as_deref())
    }

    /// The file as it is; `None`: there is none.
    fn content(path: &Path) -> Result<Option<Vec<u8>>, Error> {
        match fs::read(path) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file(path, "read it")(error)),
        }
    }

    /// Reads, changes and replaces the file; what `change` returns.
    fn rewrite<T>(&self, change: impl FnOnce(&mut Vec<Entry>) -> T) -> Result<T, Error> {
        let (path, directory) = self.place()?;
        let _lock = Lock::directory(&directory)?;
        let before = Self::content(&path)?;
        let mut parts = Parts::read(&path, before.as_deref())?;
        let result = change(&mut parts.entries);
        let after = parts.write();
        if after == before {
            return Ok(result);
        }
        match after {
            Some(content) => replace(&path, &directory, &content)?,
            None => remove(&path, &directory)?,
        }
        sync(&directory)?;
        Ok(result)
    }
}

impl Backend for HostsDeny {
    fn name(&self) -> &'static str {
        "hosts-deny"
    }

    fn prepare(&mut self) -> Result<Vec<Entry>, Error> {
        // A temporary file tells now, and not at the first block, whether the directory can be written.
        let (_, directory) = self.place()?;
        tempfile::NamedTempFile::new_in(&directory).map_err(Error::file(&directory, "write into it"))?;
        let (path, _) = self.place()?;
        self.watch = Some(Watch::open(&path, &directory)?);
        self.list()
    }

    fn apply(&mut self, changes: &[Change], _: Timestamp) -> Vec<Result<Effect, Error>> {
        let done =
            self.rewrite(|entries| changes.iter().map(|change| make(entries, change)).collect::<Vec<_>>());
        match done {
            Ok(effects) => effects.into_iter().map(Ok).collect(),
            Err(error) => changes.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    fn list(&mut self) -> Result<Vec<Entry>, Error> {
        let (path, _) = self.place()?;
        Ok(Self::read(&path)?.entries)
    }

    fn watch(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(Watch::as_fd)
    }

    /// Whoever edits the section chooses who stands in it; where the whole section is gone, the file was replaced by
    /// one who did not know of it.
    fn noticed(&mut self) -> Result<Noticed, Error> {
        let edit = match self.watch.as_mut().map(Watch::read) {
            None => None,
            Some(Ok(edit)) => edit,
            Some(Err(error)) => {
                self.watch = None;
                return Err(error);
            }
        };
        let mut noticed = Noticed::default();
        match edit {
            None => {}
            Some(Edit::Psentry) => noticed.edited = Some("'psentry-block'".to_owned()),
            Some(Edit::Others) if self.list().is_ok_and(|entries| !entries.is_empty()) => {
                noticed.edited = Some(SOMEBODY.to_owned());
            }
            Some(Edit::Others) => noticed.damaged = Some(SOMEBODY.to_owned()),
        }
        Ok(noticed)
    }

    fn remove(&mut self) -> Result<Vec<Entry>, Error> {
        let (path, _) = self.place()?;
        if Self::content(&path)?.is_none() {
            return Ok(Vec::new());
        }
        self.rewrite(std::mem::take)
    }

    fn ends_by_itself(&self) -> bool {
        false
    }
}

fn make(entries: &mut Vec<Entry>, change: &Change) -> Effect {
    let scope = change.scope;
    let had = entries.len();
    match &change.wish {
        Wish::Block(block) => {
            let entry = Entry::new(scope, block.until, block.rule.clone());
            match entries.iter_mut().find(|other| other.scope == scope) {
                Some(other) => *other = entry,
                None => entries.push(entry),
            }
            Effect::Done
        }
        Wish::Release(_) => {
            entries.retain(|entry| entry.scope != scope);
            if entries.len() < had { Effect::Done } else { Effect::WasNotThere }
        }
    }
}

/// Puts a new file in the place of the old one, with its owner and rights.
fn replace(path: &Path, directory: &Path, content: &[u8]) -> Result<(), Error> {
    let wrong = |doing| Error::file(path, doing);
    let mut file = draft(directory).map_err(wrong("write a new one beside it"))?;
    let (mode, owner) = match fs::metadata(path) {
        Ok(meta) => (meta.mode() & 0o7777, Some((meta.uid(), meta.gid()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (MODE, None),
        Err(error) => return Err(wrong("read its rights")(error)),
    };
    if let Some((uid, gid)) = owner {
        fchown(file.as_file(), Some(uid), Some(gid)).map_err(wrong("keep its owner"))?;
    }
    file.as_file().set_permissions(Permissions::from_mode(mode)).map_err(wrong("keep its rights"))?;
    file.write_all(content).map_err(wrong("write a new one beside it"))?;
    file.as_file().sync_all().map_err(wrong("write a new one beside it"))?;
    // Closed before it is renamed: a file that is closed under its new name looks as if others had written it.
    file.into_temp_path().persist(path).map_err(|error| wrong("replace it")(error.error))?;
    Ok(())
}

/// Takes the file away, by way of a draft's name, so that whoever watches knows who it was.
fn remove(path: &Path, directory: &Path) -> Result<(), Error> {
    let wrong = |doing| Error::file(path, doing);
    let aside = draft(directory).map_err(wrong("remove it"))?;
    fs::rename(path, aside.path()).map_err(wrong("remove it"))
}

fn sync(directory: &Path) -> Result<(), Error> {
    let wrong = |doing| Error::file(directory, doing);
    File::open(directory).map_err(wrong("open it"))?.sync_all().map_err(wrong("write it to the disk"))
}

#[cfg(test)]
mod tests;
