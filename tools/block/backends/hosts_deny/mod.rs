//! Blocks as lines in hosts.deny, for services that are linked with TCP wrappers, or run by tcpd. Nothing in the
//! kernel changes. The file is replaced in one step, under a lock on its directory.

mod section;

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use psentry_records::Timestamp;

use self::section::Parts;
use crate::backend::{Backend, Change, Effect, Entry, Wish};
use crate::error::Error;
use crate::lock::Lock;

/// The rights of a file that is made: every service has to read it.
const MODE: u32 = 0o644;

/// The backend.
pub(super) struct HostsDeny {
    path: PathBuf,
}

impl HostsDeny {
    pub(super) fn new(path: &Path) -> Self {
        HostsDeny { path: path.to_owned() }
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
            None => fs::remove_file(&path).map_err(Error::file(&path, "remove it"))?,
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
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(wrong("write a new one beside it"))?;
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
    file.persist(path).map_err(|error| wrong("replace it")(error.error))?;
    Ok(())
}

fn sync(directory: &Path) -> Result<(), Error> {
    let wrong = |doing| Error::file(directory, doing);
    File::open(directory).map_err(wrong("open it"))?.sync_all().map_err(wrong("write it to the disk"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Block;
    use psentry_records::Prefix;

    fn change(scope: &str, block: bool) -> Change {
        let (scope, block_of) = (scope.parse::<Prefix>().unwrap(), Block::default());
        Change { scope, wish: if block { Wish::Block(block_of) } else { Wish::Release(block_of) } }
    }

    fn apply(backend: &mut HostsDeny, scope: &str, block: bool) -> Effect {
        backend.apply(&[change(scope, block)], Timestamp::now()).remove(0).unwrap()
    }

    #[test]
    fn a_file_behind_a_link_keeps_its_rights_and_its_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let (real, link) = (directory.path().join("real"), directory.path().join("link"));
        fs::write(&real, b"\xff\xfe no text\nALL: x").unwrap();
        fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("real", &link).unwrap();
        let mut backend = HostsDeny::new(&link);
        assert_eq!(apply(&mut backend, "192.0.2.7", true), Effect::Done);
        assert_eq!(apply(&mut backend, "192.0.2.7", true), Effect::Done);
        assert_eq!(backend.list().unwrap().len(), 1);
        assert_eq!(fs::metadata(&real).unwrap().mode() & 0o777, 0o640);
        assert!(link.is_symlink());
        assert_eq!(apply(&mut backend, "192.0.2.8", false), Effect::WasNotThere);
        assert_eq!(apply(&mut backend, "192.0.2.7", false), Effect::Done);
        assert_eq!(fs::read(&real).unwrap(), b"\xff\xfe no text\nALL: x");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_section_without_blocks_goes_too() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts.deny");
        fs::write(&path, "mine\n# BEGIN psentry\n# END psentry\ntheirs").unwrap();
        assert_eq!(HostsDeny::new(&path).remove().unwrap(), []);
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine\ntheirs");
    }

    #[test]
    fn a_file_that_was_not_there_is_not_there_afterwards() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts.deny");
        let mut backend = HostsDeny::new(&path);
        assert_eq!(backend.prepare().unwrap(), []);
        assert!(!path.exists());
        apply(&mut backend, "2001:db8::/64", true);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, MODE);
        assert_eq!(backend.remove().unwrap().len(), 1);
        assert!(!path.exists());
        assert_eq!(backend.remove().unwrap(), []);
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error_with_its_name() {
        let mut backend = HostsDeny::new(Path::new("/nonexistent/hosts.deny"));
        assert!(backend.prepare().unwrap_err().to_string().starts_with("/nonexistent: "));
    }
}
