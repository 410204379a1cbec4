//! Blocks as lines in hosts.deny, for services that are linked with TCP wrappers, or run by tcpd. Nothing in the
//! kernel changes. The file is replaced in one step, under a lock on its directory.

mod edits;
mod replacing;
mod section;
mod watch;

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use psentry_records::Timestamp;

use self::edits::Edits;
use self::replacing::{remove, replace, sync};
use self::section::Parts;
use self::watch::Watch;
use super::SOMEBODY;
use crate::backend::{Backend, Block, Change, Cleared, Effect, Entry, Noticed, Wish};
use crate::error::Error;
use crate::lock::Lock;

/// The backend.
pub(super) struct HostsDeny {
    path: PathBuf,
    watch: Option<Watch>,
    /// Why nothing is told of changes, until that is told.
    unheard: Option<Error>,
    /// What was watched is not there any more.
    lost: bool,
}

impl HostsDeny {
    pub(super) fn new(path: &Path) -> Self {
        HostsDeny { path: path.to_owned(), watch: None, unheard: None, lost: false }
    }

    /// Whether the file can be found and its section read.
    pub(super) fn check(&self) -> Result<(), Error> {
        let (path, directory) = self.place()?;
        fs::metadata(&directory).map_err(Error::file(&directory, "find it"))?;
        Self::read(&path).map(drop)
    }

    /// The file, and the symbolic link that leads to it.
    fn paths(&self) -> Result<Vec<PathBuf>, Error> {
        let (path, _) = self.place()?;
        let given = std::path::absolute(&self.path).map_err(Error::file(&self.path, "find it"))?;
        Ok(if given == path { vec![path] } else { vec![path, given] })
    }

    fn listen(&mut self) -> Result<(), Error> {
        self.watch = Some(Watch::open(&self.paths()?)?);
        Ok(())
    }

    /// What was changed, once more of what replaced it, if something did.
    fn edits(&mut self) -> Result<Edits, Error> {
        let mut edits = match self.watch.as_mut().map(Watch::read) {
            None => Edits::NONE,
            Some(Ok(edits)) => edits,
            Some(Err(error)) => {
                self.watch = None;
                return Err(error);
            }
        };
        let moved =
            || !self.paths().is_ok_and(|paths| self.watch.as_ref().is_some_and(|w| w.is_over(&paths)));
        if edits.lost || (edits.others && moved()) {
            self.watch = None;
            self.lost = true;
            edits.lost = true;
        }
        // Until there is something to watch again, whatever is done to the file fails, and is tried again.
        if self.lost && self.listen().is_ok() {
            self.lost = false;
            edits.lost = true;
        }
        Ok(edits)
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

    /// Whether there is a section that can be read.
    fn has_section(&self) -> bool {
        self.place().and_then(|(path, _)| Self::read(&path)).is_ok_and(|parts| parts.section)
    }

    /// Reads, changes and replaces the file; what `change` returns.
    fn rewrite<T>(&self, flush: bool, change: impl FnOnce(&mut Vec<Entry>) -> T) -> Result<T, Error> {
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
            Some(content) => replace(&path, flush, &content)?,
            None => remove(&path, &directory, flush)?,
        }
        sync(&path, &directory)?;
        Ok(result)
    }
}

impl Backend for HostsDeny {
    fn name(&self) -> &'static str {
        "hosts-deny"
    }

    fn prepare(&mut self) -> Result<Vec<Entry>, Error> {
        // A temporary file tells now, and not at the first block, whether the directory can be written.
        let (path, directory) = self.place()?;
        let wrong = |why: io::Error| match why.kind() {
            io::ErrorKind::NotFound => Error::file(&directory, "write into it")(why),
            _ => Error::file(&path, "write a new one beside it")(why),
        };
        tempfile::NamedTempFile::new_in(&directory).map_err(wrong)?;
        self.unheard = self.listen().err();
        self.list()
    }

    fn apply(&mut self, changes: &[Change], _: Timestamp) -> Vec<Result<Effect, Error>> {
        let done = self
            .rewrite(false, |entries| changes.iter().map(|change| make(entries, change)).collect::<Vec<_>>());
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
        if let Some(error) = self.unheard.take() {
            return Err(error);
        }
        let edits = self.edits()?;
        let psentry = || "'psentry-block'".to_owned();
        let mut noticed = Noticed::default();
        if edits.flush {
            noticed.cleared = Some(Cleared { who: psentry(), ..Cleared::default() });
        }
        if edits.psentry {
            noticed.edited = Some(psentry());
        }
        if edits.lost || (edits.others && !self.has_section()) {
            noticed.damaged = Some(SOMEBODY.to_owned());
        } else if edits.others {
            noticed.edited = Some(SOMEBODY.to_owned());
        }
        Ok(noticed)
    }

    fn remove(&mut self) -> Result<Vec<Entry>, Error> {
        let (path, _) = self.place()?;
        if Self::content(&path)?.is_none() {
            return Ok(Vec::new());
        }
        self.rewrite(true, std::mem::take)
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
            let Block { since, until, unproven, .. } = *block;
            let entry = Entry { since, unproven, ..Entry::new(scope, until, block.rule.clone()) };
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

#[cfg(test)]
mod tests;
